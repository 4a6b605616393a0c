"""The whole way on every data set: prepared, read again, trained on for an epoch, tested."""

import pathlib

import numpy as np
import pytest
import raw_trees

from sicl_jax import config as configs
from sicl_jax import evaluation, inference
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.errors import UserError
from sicl_jax.training import loop, testing

_CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
_TEST_ONLY = ("real28",)
_TINY = (
    "data.image_size=(32, 16)",
    "model.block=basic",
    "model.stage_sizes=(1, 1)",
    "model.width=4",
    "model.pretrained=",
    "silhouettes=False",
    "clustering.k1=6",
    "neighbors.num=2",
    "epochs=1",
    "steps_per_epoch=2",
    "batch_size=8",
    "embed_batch_size=8",
    "evaluate.before=False",
)


pytestmark = pytest.mark.usefixtures("compiled_once")


def _prepared(name, folder):
    """A data set's name, with its config where there are several, after preparing it."""
    tree = raw_trees.WRITERS[name](folder)
    name = raw_trees.CONFIGS.get(name, name)
    prepare(Request(name, folder / "data", tree.raw, tree.masks))
    return name


def _train(name, folder):
    own = f"sicl_{name}"
    settings = (*_TINY, f"data.dir={folder / 'data'}", f"data.name={name}")
    config = configs.load(
        own if (_CONFIGS / f"{own}.py").exists() else "sicl_person_folder",
        [f"--config.{setting}" for setting in settings],
    )
    return loop.train(config, folder / "run", quiet=True, say=lambda line: None)


def _check(results, name):
    protocols = evaluation.protocols(name)  # All but those for which labels may be unknown.
    always = {protocol.name for protocol in protocols if not protocol.optional}
    assert always <= set(results) <= {protocol.name for protocol in protocols}
    for result in results.values():
        figures = result.as_dict()
        assert 0 < figures["mAP"] <= 1
        assert np.isfinite(figures["rank1"])


@pytest.mark.parametrize("name", [name for name in raw_trees.WRITERS if name not in _TEST_ONLY])
def test_prepared_trained_and_tested(name, tmp_path):
    name = _prepared(name, tmp_path)
    _check(_train(name, tmp_path), name)


@pytest.mark.parametrize("name", _TEST_ONLY)
def test_prepared_and_tested_where_there_is_nothing_to_train_on(name, tmp_path):
    trained_on, name = (_prepared(each, tmp_path) for each in ("prcc", name))
    with pytest.raises(UserError, match="train"):
        _train(name, tmp_path)
    _train(trained_on, tmp_path)
    model = inference.load_run(tmp_path / "run")
    _check(testing.test_on(model, name, data_dir=tmp_path / "data")[1], name)
