"""What accelerators run and CPUs do not: many steps in one loop, in bfloat16, lowered for CUDA."""

import re

import jax
import numpy as np
import pytest
import tiny_training

from sicl_jax import config as configs
from sicl_jax import devices, methods
from sicl_jax.methods.embedder import columns_of
from sicl_jax.methods.source import abstract_state
from sicl_jax.training import feeds, steps

_STEPS = 2
_PRCC_IMAGES = 17_896


@pytest.fixture
def _as_on_a_gpu(monkeypatch):
    """Has our code choose what it chooses on a GPU."""
    monkeypatch.setattr(devices, "on_cpu", lambda: False)


def _train(dtype: str):
    """Metrics of a few steps, and the state after them."""
    config, data = tiny_training.make_config(f"model.dtype={dtype}"), tiny_training.make_data()
    method, state = tiny_training.start(config, data)
    feed = feeds.ResidentFeed(columns_of(data, (*method.forms, *method.labels)))
    call = steps.compile_train_call(method, state, feed)
    (sent,) = feed.calls(method.draw_batches(state, data, 0)[:_STEPS], _STEPS)
    state, metrics = call(state, feed.resident, sent, devices.put_replicated(np.uint32(0)))
    return jax.device_get((metrics, state))


@pytest.fixture(scope="module")
def unrolled():
    with jax.enable_x64(True):
        return _train("float32")


@pytest.mark.usefixtures("_as_on_a_gpu")
def test_a_loop_of_steps_computes_what_single_steps_compute(unrolled):
    with jax.enable_x64(True):
        metrics, state = _train("float32")
    for name, values in metrics.items():
        np.testing.assert_allclose(values, unrolled[0][name], rtol=1e-7, err_msg=name)
    assert metrics["loss"].shape == (_STEPS,)
    for name, bank in state.memory.banks.items():
        np.testing.assert_allclose(bank.rows, unrolled[1].memory.banks[name].rows, atol=1e-7)
    assert int(state.clock.step) == _STEPS


@pytest.mark.usefixtures("_as_on_a_gpu")
def test_in_bfloat16_the_encoders_alone_lose_digits(unrolled):
    metrics, state = _train("bfloat16")
    types = {leaf.dtype.name for leaf in jax.tree.leaves(state)}
    assert types == {"float32", "int32"}
    first, exact = metrics["loss"][0], unrolled[0]["loss"][0]  # Before Adam amplifies rounding.
    np.testing.assert_allclose(first, exact, rtol=2e-2)
    assert first != exact  # It was bfloat16.


@pytest.mark.usefixtures("_as_on_a_gpu")
def test_the_published_settings_lower_for_cuda():
    """ResNet-50, 256 x 128, all images of PRCC: one loop of 50 steps, convolutions in bfloat16."""
    config = configs.load("sicl_prcc", ["--config.model.pretrained="])
    method = methods.create(config)
    size = (_PRCC_IMAGES, *config.data.image_size)
    data = tiny_training.made_up_split(
        np.broadcast_to(np.uint8(0), (*size, 3)), np.broadcast_to(np.uint8(0), size)
    )
    state = abstract_state(method, data)
    program = steps.lower_train_call(method, state, data, "cuda")
    text = program.as_text()
    convolutions = re.findall(r"stablehlo\.convolution.*-> tensor<[0-9x]+x(\w+)>", text)
    products = re.findall(r"stablehlo\.dot_general.*-> tensor<[0-9x]+x(\w+)>", text)
    # Forward, gradient of the weights, and of all inputs but the two encoders' images. None as a
    # product: XLA aborts when it compiles the gradient of one of stride 2 for a GPU, and others
    # move more bytes (benchmarks/gpu_program.py).
    assert convolutions == ["bf16"] * (2 * 53 * 3 - 2)
    assert set(products) == {"f32"}
    donated = text.count("tf.aliasing_output")
    assert donated == len(jax.tree.leaves(state)), "state that is copied at every call"


@pytest.mark.gpu
def test_the_published_settings_train():
    """Two calls of 50 steps: the losses are finite, and the state is not copied."""
    config = configs.load("sicl_prcc", ["--config.model.pretrained="])
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (256, *config.data.image_size, 3), np.uint8)
    masks = rng.integers(0, 2, images.shape[:3], np.uint8) * np.uint8(255)
    data = tiny_training.made_up_split(images, masks)
    method, state = tiny_training.start(config, data)
    feed = feeds.ResidentFeed(columns_of(data, (*method.forms, *method.labels)))
    call = steps.compile_train_call(method, state, feed)
    seed, losses = devices.put_replicated(np.uint32(0)), []
    for sent in feed.calls(method.draw_batches(state, data, 0)[:100], 50):
        before = state
        state, metrics = call(state, feed.resident, sent, seed)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
        losses.append(np.asarray(metrics["loss"]))
    assert np.isfinite(losses).all() and np.shape(losses) == (2, 50)
    assert int(state.clock.step) == 100
