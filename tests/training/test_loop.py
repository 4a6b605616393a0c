"""The loop from config to checkpoint, on tiny data; and that it knows no method."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sicl_jax
from sicl_jax import config as configs
from sicl_jax import methods
from sicl_jax.errors import UsageError, UserError
from sicl_jax.methods import source
from sicl_jax.methods.base import Method
from sicl_jax.methods.state import Aux, Batch
from sicl_jax.models.layers import Constant, param
from sicl_jax.register import METHODS
from sicl_jax.training import loop

pytestmark = pytest.mark.usefixtures("compiled_once")


def _lines(folder, kind):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def test_a_run_trains_tests_logs_and_keeps_checkpoints(tiny_config, tmp_path):
    said = []
    trace = tmp_path / "trace"
    results = loop.train(tiny_config(), tmp_path, quiet=True, profile=trace, say=said.append)
    assert list(trace.rglob("*.xplane.pb"))
    assert "cloth_changing/single_shot" in results
    epochs = _lines(tmp_path, "epoch")
    assert [line["epoch"] for line in epochs] == [1, 2]
    assert [line["step"] for line in epochs] == [2, 4]
    terms = {"rgb_prototype", "silhouette_prototype", "fusion_prototype", "cross_prototype"}
    for line in epochs:
        assert terms <= line["terms"].keys()
        assert math.isclose(line["loss"], sum(line["terms"].values()), rel_tol=1e-4)
        assert 0 <= line["unclustered"] <= 96
    assert [line["epoch"] for line in _lines(tmp_path, "test")] == [0, 2]
    assert len(_lines(tmp_path, "start")[0]["dataset"]) > 8
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert (tmp_path / "checkpoints" / "latest" / "4").is_dir()
    assert any("lone images" in line for line in said)


def test_a_finished_run_is_not_trained_again(tiny_config, tmp_path):
    config = tiny_config("evaluate.before=False")
    first = loop.train(config, tmp_path, quiet=True, say=lambda line: None)
    size = (tmp_path / "metrics.jsonl").stat().st_size
    said = []
    again = loop.train(config, tmp_path, quiet=True, say=said.append)
    assert (tmp_path / "metrics.jsonl").stat().st_size == size
    steps = config.epochs * config.steps_per_epoch
    assert f"resumed after epoch {config.epochs}, step {steps}" in said
    name = "cloth_changing/all"
    assert again[name].mAP == first[name].mAP


@pytest.mark.parametrize(
    "switch", ["silhouettes=False", "neighbors.num=0", "clustering.refine=False", "compat=paper"]
)
def test_each_switch_trains(tiny_config, tmp_path, switch):
    config = tiny_config(switch, "epochs=1", "evaluate.before=False")
    loop.train(config, tmp_path, quiet=True, say=lambda line: None)
    line = _lines(tmp_path, "epoch")[0]
    assert math.isfinite(line["loss"])
    assert ("silhouette_prototype" in line["terms"]) == (switch != "silhouettes=False")
    assert ("rgb_neighbor" in line["terms"]) == (switch != "neighbors.num=0")


def test_too_few_images_for_a_batch(tiny_config, tmp_path):
    with pytest.raises(UserError, match="96 training images are fewer than one batch of 128"):
        loop.train(tiny_config("batch_size=128"), tmp_path, quiet=True, say=lambda line: None)


def test_a_protocol_that_is_not_there_is_refused_before_the_first_step(tiny_config, tmp_path):
    config = tiny_config("evaluate.select_by=standard")
    with pytest.raises(UsageError, match="synthetic_people/tiny has no protocol 'standard'"):
        loop.train(config, tmp_path, quiet=True, say=lambda line: None)


def test_empty_masks_are_warned_of(tiny_config):
    config = tiny_config()
    method = methods.create(config)
    data = loop.open_dataset(config, method).split("train")
    masks = np.array(data.pixels["mask"])
    assert method.check(data) == []
    masks[::10] = 0
    data = dataclasses.replace(data, pixels={**data.pixels, "mask": masks})
    (warning,) = method.check(data)
    assert "empty" in warning


def test_a_workdir_of_another_config_is_refused(tiny_config, tmp_path):
    short = ("epochs=1", "steps_per_epoch=1", "evaluate.before=False")
    loop.train(tiny_config(*short), tmp_path, quiet=True, say=lambda line: None)
    with pytest.raises(UserError, match=r"another config \(config.seed: 0 -> 1\)"):
        loop.train(tiny_config(*short, "seed=1"), tmp_path, quiet=True, say=lambda line: None)


def test_the_abstract_state_is_the_state(tiny_config):
    """Structure, shapes, types and shardings agree, so that a checkpoint can be restored."""
    config = tiny_config()
    method = methods.create(config)
    data = loop.open_dataset(config, method).split("train")
    state = source.begin(method, data, 0)
    expected = source.abstract_state(method, data)
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for got, want in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        assert (got.shape, got.dtype, got.sharding) == (want.shape, want.dtype, want.sharding)


def test_banks_start_from_features_and_fusion_from_rgb(tiny_config):
    config = tiny_config()
    method = methods.create(config)
    data = loop.open_dataset(config, method).split("train")
    state = source.begin(method, data, 0)
    banks = state.memory.banks
    assert set(banks) == {"rgb", "silhouette", "fusion"}
    np.testing.assert_array_equal(banks["fusion"].rows, banks["rgb"].rows)
    for bank in banks.values():
        np.testing.assert_allclose(np.linalg.norm(bank.rows, axis=1), 1, rtol=1e-5)
    batch = Batch(jnp.arange(5), {"image": jnp.asarray(data.pixels["image"][:5])}, {})
    direct = method.embed(method.model(state.weights), batch, "rgb")
    np.testing.assert_allclose(banks["rgb"].rows[:5], direct, atol=1e-5)


def test_the_curriculum_follows_the_epoch(tiny_config):
    config = tiny_config("epochs=10", "neighbors.num=5")
    method = methods.create(config)
    data = loop.open_dataset(config, method).split("train")
    state = source.begin(method, data, 0)
    for epoch, neighbors in ((0, 0), (3, 1), (4, 2), (9, 4)):
        started = method.begin_epoch(state, data, epoch, {})
        clusters = started.state.memory.clusters
        assert started.figures["neighbors"] == int(clusters.num_neighbors) == neighbors


class _Centre(nnx.Module):
    def __init__(self):
        self.colour = param((3,), Constant(0.0))


class _MeanColour(Method):
    """A method that is nothing like SiCL: one array, no masks, banks, pseudo-labels or network."""

    name = "mean_colour"

    def build(self):
        return _Centre()

    def loss(self, model, memory, batch, key, clock):
        del memory, key, clock
        now = jnp.mean(batch.pixels["image"].astype(jnp.float32), axis=(0, 1, 2))
        return jnp.mean(jnp.square(now - model.colour[...])), Aux()

    def draw_batches(self, state, data, epoch):
        """Epochs of differing length."""
        del state
        shape = (3 + epoch, self.config.batch_size)
        return np.random.default_rng(epoch).integers(0, len(data), shape).astype(np.int32)

    def embed(self, model, batch, stream):
        del stream
        return jnp.mean(batch.pixels["image"].astype(jnp.float32), axis=(1, 2)) - model.colour[...]


@pytest.fixture
def mean_colour():
    METHODS.register("mean_colour", _MeanColour)


@pytest.mark.usefixtures("mean_colour")
def test_the_loop_trains_any_method(tiny_data, tmp_path):
    config = configs.base("mean_colour")
    config.data.name, config.data.dir = "synthetic_people/tiny", str(tiny_data)
    config.data.image_size = (32, 16)
    config.epochs, config.batch_size = 4, 8
    config.optimizer.learning_rate = 10.0
    config.schedule.update({"name": "multistep", "milestones": (1, 3), "unit": "step"})
    loop.train(config.lock(), tmp_path, quiet=True, say=lambda line: None)
    lines = _lines(tmp_path, "epoch")
    losses = [line["loss"] for line in lines]
    assert len(losses) == 4 and losses[-1] < losses[0]
    assert [line["step"] for line in lines] == [3, 7, 12, 18]
    np.testing.assert_allclose([line["learning_rate"] for line in lines], [10, 1, 1, 0.1])
    model = sicl_jax.load(tmp_path)
    assert model.embed(np.zeros((1, 40, 20, 3), np.uint8)).shape == (1, 3)
