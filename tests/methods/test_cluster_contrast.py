"""Cluster Contrast: against its published code's numbers, as a run, and as files."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sicl_jax import config as configs
from sicl_jax import devices, inference, methods
from sicl_jax.errors import UserError
from sicl_jax.export import write
from sicl_jax.methods import source
from sicl_jax.methods.cluster_contrast.verify import CHECKS
from sicl_jax.methods.sicl.model import Encoder as SiclEncoder
from sicl_jax.methods.sicl.weights import names as sicl_names
from sicl_jax.models.resnet import GeneralizedMean, ResNetConfig
from sicl_jax.register import METHODS
from sicl_jax.runs.checkpoints import Checkpoints, Progress
from sicl_jax.training import loop
from sicl_jax.verify import verify_file
from sicl_jax.weights import torch_names
from sicl_jax.weights.torch_files import load_state_dict, save_state_dict

_GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "cluster_contrast"


@pytest.mark.parametrize("name", CHECKS)
def test_golden_numbers_agree(name):
    checks = verify_file(_GOLDEN / f"{name}.npz", CHECKS)
    assert checks
    assert [check for check in checks if not check.ok] == []


def test_gem_neither_underflows_nor_overflows():
    """Exponents that training may reach, and maps that are 0 all over: finite, and bounded."""
    maps = np.random.default_rng(0).gamma(0.3, size=(2, 4, 3, 5)).astype(np.float32)
    maps[0, :, :, 0] = 0.0
    for p in (1.0, 3.0, 9.0, 60.0):
        pooled, gradient = jax.value_and_grad(lambda maps, p=p: jnp.sum(GeneralizedMean(p)(maps)))(
            maps
        )
        assert np.isfinite(pooled) and np.all(np.isfinite(gradient))
        assert np.all(gradient[0, :, :, 0] == 0)
        exact = np.mean(np.maximum(maps.astype(np.float64), 1e-6) ** p, (1, 2)) ** (1 / p)
        np.testing.assert_allclose(pooled, exact.sum(), rtol=1e-4)


# ---- a run -------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tiny_data):
    """Makes the config of a run of seconds."""

    def make(*overrides: str):
        settings = (
            f"data.dir={tiny_data}",
            "data.name=synthetic_people/tiny",
            "model.width=4",
            "model.pretrained=",
            "epochs=2",
            "steps_per_epoch=2",
            "batch_size=16",
            "embed_batch_size=32",
            "clustering.k1=8",
            "clustering.eps=0.6",
            *overrides,
        )
        changes = [f"--config.{setting}" for setting in settings]
        return configs.load("cluster_contrast_demo", changes)

    return make


def _train(config, folder):
    said = []
    loop.train(config, folder, quiet=True, say=said.append)
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return said, [line for line in lines if line["kind"] == "epoch"]


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tiny, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ("checkpoint_every_steps=1", "memory.hard=True")
    _, expected = _train(tiny(*options), whole)
    with pytest.raises(RuntimeError, match="stopped"):
        loop.train(tiny(*options), parts, quiet=True, say=_stop_at("epoch 1/2"))
    said, found = _train(tiny(*options), parts)
    assert any("resumed" in line for line in said)
    assert [line["loss"] for line in found] == [line["loss"] for line in expected]
    for one, other in zip(
        *(jax.tree.leaves(inference.load(f).weights) for f in (whole, parts)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_checkpoint_of_any_number_of_clusters_is_gone_on_from(tiny, tmp_path):
    """From two images in one cluster to every image alone; the padded sizes differ."""
    images, method = 2000, methods.create(tiny())
    state = source.begin(method, range(images), seed=0)
    features = np.eye(method.config.model.width * 8)[np.arange(images) % 32].astype(np.float32)
    sizes = set()
    for clusters in (1, images // 2, images):
        labels = np.minimum(np.arange(images), clusters - 1).astype(np.int32)
        memory = method.memory_of(labels, features)
        folder = tmp_path / str(clusters)
        writer = Checkpoints(folder)
        writer.save(3, dataclasses.replace(state, memory=memory), Progress())
        writer.wait()
        found = writer.restore(lambda _: source.abstract_state(method, range(images)), print)
        writer.close()
        for one, other in zip(*map(jax.tree.leaves, (memory, found.state.memory)), strict=True):
            np.testing.assert_array_equal(one, other)
        sizes.add(len(memory.rows))
    assert len(sizes) == 3


def _stop_at(words: str):
    def say(line: str) -> None:
        if words in line:
            raise RuntimeError("stopped")

    return say


def test_an_epoch_is_one_pass_where_no_steps_are_given(tiny, tmp_path):
    _, (line,) = _train(tiny("epochs=1", "steps_per_epoch=0", "evaluate.before=False"), tmp_path)
    config = tiny("steps_per_epoch=0")
    passes = line["clusters"] * config.sampler.num_instances // config.batch_size
    assert line["step"] == max(passes, 1)
    assert line["clusters"] + line["unclustered"] == line["pseudo_identities"]


def test_no_cluster_at_all_is_one_line(tiny, tmp_path):
    config = tiny("clustering.eps=0.0001", "evaluate.before=False")
    with pytest.raises(UserError, match=r"is in a cluster: raise --config\.clustering\.eps"):
        loop.train(config, tmp_path, quiet=True, say=lambda line: None)


# ---- files -------------------------------------------------------------------------------------


@pytest.fixture(params=["gem", "average"])
def published(request, tmp_path):
    """A checkpoint as the authors' script saves one, and its config fields."""
    changes = [
        "model.width=4",
        "model.pretrained=",
        "model.stage_sizes=(1, 1)",
        f"model.pooling={request.param}",
    ]
    config = configs.load("cluster_contrast_demo", [f"--config.{c}" for c in changes])
    method = methods.create(config)
    model = method.model(devices.put_replicated(method.initial_weights(0)))
    path = tmp_path / "model_best.pth.tar"
    content = method.checkpoint(model, epoch=50, steps=10_000)
    assert ("module.gap.p" in content["state_dict"]) == (request.param == "gem")
    save_state_dict(path, content | {"best_mAP": 0.8})
    return path, request.param


def test_published_checkpoints_are_known_and_come_back(published, tmp_path):
    path, pooling = published
    model = inference.load(path)
    assert model.method.name == "cluster_contrast"
    assert model.config.model.pooling == pooling
    assert tuple(model.config.model.stage_sizes) == (1, 1)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 32, 3), np.uint8)
    features = model.embed(images)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)

    write(model, tmp_path / "again.pth", "torch")
    back = load_state_dict(tmp_path / "again.pth", strip_prefix="module.")
    for name, array in load_state_dict(path, strip_prefix="module.").items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(back[name], array)


def test_a_checkpoint_of_sicl_is_not_taken_for_one():
    encoder = SiclEncoder(ResNetConfig("basic", (1,), 4))
    arrays = torch_names.collect(sicl_names(encoder))
    assert METHODS.get("cluster_contrast").recognize(arrays) is None
    assert METHODS.get("sicl").recognize(arrays) is not None
