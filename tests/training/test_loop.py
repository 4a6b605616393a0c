"""The loop from config to checkpoint, on tiny data; and that it knows no method."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sicl_jax import methods
from sicl_jax.errors import UserError
from sicl_jax.methods.sicl.method import Sicl
from sicl_jax.training import loop


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
        assert terms <= line.keys()
        parts = [v for k, v in line.items() if k.endswith(("_prototype", "_neighbor", "_instance"))]
        assert math.isclose(line["loss"], sum(parts), rel_tol=1e-4)
        assert 0 <= line["unclustered"] <= 96
    assert [line["epoch"] for line in _lines(tmp_path, "test")] == [0, 2]
    assert len(_lines(tmp_path, "start")[0]["dataset"]) > 8
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert (tmp_path / "checkpoints" / "latest" / "4").is_dir()
    assert any("unclustered" in line for line in said)


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
    assert ("silhouette_prototype" in line) == (switch != "silhouettes=False")
    assert ("rgb_neighbor" in line) == (switch != "neighbors.num=0")


def test_too_few_images_for_a_batch(tiny_config, tmp_path):
    with pytest.raises(UserError, match="96 training images are fewer than one batch of 128"):
        loop.train(tiny_config("batch_size=128"), tmp_path, quiet=True, say=lambda line: None)


def test_empty_masks_are_warned_of(tiny_config, tmp_path, monkeypatch):
    def without_people(dataset, method):
        data = real(dataset, method)
        masks = np.array(data.masks)
        masks[::10] = 0
        return dataclasses.replace(data, masks=masks)

    real = loop.training_data
    monkeypatch.setattr(loop, "training_data", without_people)
    said = []
    config = tiny_config("epochs=1", "steps_per_epoch=1", "evaluate.before=False")
    loop.train(config, tmp_path, quiet=True, say=said.append)
    assert any(line.startswith("warning: ") and "empty" in line for line in said)


def test_a_workdir_of_another_config_is_refused(tiny_config, tmp_path):
    short = ("epochs=1", "steps_per_epoch=1", "evaluate.before=False")
    loop.train(tiny_config(*short), tmp_path, quiet=True, say=lambda line: None)
    with pytest.raises(UserError, match=r"another config \(config.seed: 0 -> 1\)"):
        loop.train(tiny_config(*short, "seed=1"), tmp_path, quiet=True, say=lambda line: None)


def test_the_abstract_state_is_the_state(tiny_config):
    """Structure, shapes, types and shardings agree, so that a checkpoint can be restored."""
    config = tiny_config()
    method = methods.create(config)
    data = loop.training_data(loop.open_dataset(config), method)
    state = method.init(data, 0)
    expected = method.abstract_state(data)
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for got, want in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        assert (got.shape, got.dtype, got.sharding) == (want.shape, want.dtype, want.sharding)


def test_banks_start_from_features_and_fusion_from_rgb(tiny_config):
    config = tiny_config()
    method = methods.create(config)
    data = loop.training_data(loop.open_dataset(config), method)
    state = method.init(data, 0)
    assert set(state.banks) == {"rgb", "silhouette", "fusion"}
    np.testing.assert_array_equal(state.banks["fusion"].rows, state.banks["rgb"].rows)
    for bank in state.banks.values():
        np.testing.assert_allclose(np.linalg.norm(bank.rows, axis=1), 1, rtol=1e-5)
    direct = method.embed(state, jnp.asarray(data.images[:5]))
    np.testing.assert_allclose(state.banks["rgb"].rows[:5], direct, atol=1e-5)


def test_the_curriculum_and_the_learning_rate_follow_the_epoch(tiny_config):
    method = Sicl(tiny_config("epochs=10", "neighbors.num=5", "lr_step=4", "learning_rate=0.1"))
    data = loop.training_data(loop.open_dataset(method.config), method)
    state = method.init(data, 0)
    for epoch, neighbors, rate in ((0, 0, 0.1), (3, 1, 0.1), (4, 2, 0.01), (9, 4, 0.001)):
        after, figures = method.begin_epoch(state, data, epoch)
        assert figures["neighbors"] == int(after.clusters.num_neighbors) == neighbors
        np.testing.assert_allclose(method.learning_rate(after.epoch), rate, rtol=1e-6)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Centre:
    """State of a method that is nothing like SiCL: the mean colour, one array."""

    weights: jax.Array
    step: jax.Array


class _MeanColour:
    """No masks, no banks, no pseudo-labels, no optimiser."""

    uses_masks = False
    streams = ("rgb",)
    pseudo_labels = ()
    streams = ("rgb",)
    pseudo_labels = ()

    def init(self, data, seed):
        from sicl_jax import devices

        del data, seed
        return devices.put_replicated(_Centre(np.zeros(3, np.float32), np.zeros((), np.int32)))

    def abstract_state(self, data):
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
            self.init(data, 0),
        )

    def abstract_weights(self):
        return jax.ShapeDtypeStruct((3,), np.float32)

    def begin_epoch(self, state, data, epoch):
        del data, epoch
        return state, {}

    def draw_batches(self, state, data, epoch):
        del state
        return np.random.default_rng(epoch).integers(0, len(data), (3, 8)).astype(np.int32)

    def train_step(self, state, batch, key):
        del key
        now = jnp.mean(batch.images.astype(jnp.float32), axis=(0, 1, 2))
        moved = _Centre(0.5 * (state.weights + now), state.step + 1)
        return moved, {"loss": jnp.mean(jnp.abs(now - state.weights))}

    def embed(self, state, images, masks=None, stream="rgb"):
        del masks, stream
        colour = jnp.mean(images.astype(jnp.float32), axis=(1, 2)) - state.weights
        return colour / jnp.linalg.norm(colour, axis=1, keepdims=True)


def test_the_loop_trains_any_method(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "create", lambda config: _MeanColour())
    loop.train(tiny_config(), tmp_path, quiet=True, say=lambda line: None)
    losses = [line["loss"] for line in _lines(tmp_path, "epoch")]
    assert len(losses) == 2 and losses[1] < losses[0]
