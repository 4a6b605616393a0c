"""The whole way on every data set: prepared, read again, trained on for an epoch, tested."""

import pathlib

import jax
import numpy as np
import pytest
import raw_trees

from sicl_jax import config as configs
from sicl_jax import evaluation
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.training import loop

_CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
_NAMES = [name for name in raw_trees.WRITERS if (_CONFIGS / f"sicl_{name}.py").exists()]
_TINY = (
    "data.image_size=(32, 16)",
    "model.block=basic",
    "model.stage_sizes=(1, 1)",
    "model.width=4",
    "model.pretrained=",
    "clustering.k1=6",
    "neighbors.num=2",
    "epochs=1",
    "steps_per_epoch=2",
    "batch_size=8",
    "embed_batch_size=8",
    "evaluate.before=False",
)


@pytest.fixture(scope="module", autouse=True)
def _shared_compilations(tmp_path_factory):
    """The data sets' programs are alike; compile each once."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update(names[0], str(tmp_path_factory.mktemp("compiled")))
    jax.config.update(names[1], 0.0)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize("name", _NAMES)
def test_prepared_trained_and_tested(name, tmp_path):
    tree = raw_trees.WRITERS[name](tmp_path)
    prepare(Request(name, tmp_path / "data", tree.raw, tree.masks))
    overrides = [f"--config.{setting}" for setting in (*_TINY, f"data.dir={tmp_path / 'data'}")]
    config = configs.load(f"sicl_{name}", overrides)
    results = loop.train(config, tmp_path / "run", quiet=True, say=lambda line: None)  # noqa: ARG005
    assert set(results) == {protocol.name for protocol in evaluation.protocols(name)}
    for result in results.values():
        figures = result.as_dict()
        assert 0 < figures["mAP"] <= 1
        assert np.isfinite(figures["rank1"])
