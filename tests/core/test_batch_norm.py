"""Batch normalisation against NumPy in float64, and against its own definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from sicl_jax.models.batch_norm import BatchNorm

_CHANNELS = 5


def _input(seed: int, mean: float, std: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(mean, std, (6, 4, 3, _CHANNELS)).astype(np.float32)


def _expected(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    axes = (0, 1, 2)
    return (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(-30, 30), st.floats(0.1, 10))
def test_normalises_as_float64_does(seed, mean, std):
    """Also where the mean is many deviations away and the running mean, at first 0, no help."""
    x = _input(seed, mean * std, std)
    found = BatchNorm(_CHANNELS)(jnp.asarray(x), train=True)
    np.testing.assert_allclose(found, _expected(x), atol=2e-3 if abs(mean) > 3 else 1e-4)


def test_the_running_mean_keeps_the_digits():
    """A thousand deviations away from 0, which in one reading of float32 would lose all digits."""
    norm = BatchNorm(_CHANNELS)
    for seed in range(150):
        norm(jnp.asarray(_input(seed, 1000.0, 1.0)), train=True)
    x = _input(0, 1000.0, 1.0)
    np.testing.assert_allclose(norm(jnp.asarray(x), train=True), _expected(x), atol=1e-3)


def test_tracks_the_mean_and_the_unbiased_variance():
    x, norm = _input(0, 2.0, 3.0), BatchNorm(_CHANNELS, momentum=0.1)
    norm(jnp.asarray(x), train=True)
    rows = x.reshape(-1, _CHANNELS).astype(np.float64)
    np.testing.assert_allclose(norm.mean[...], 0.1 * rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * rows.var(0, ddof=1), rtol=1e-5)
    before = nnx.state(norm)
    evaluated = norm(jnp.asarray(x), train=False)
    expected = (rows - 0.1 * rows.mean(0)) / np.sqrt(0.9 + 0.1 * rows.var(0, ddof=1) + 1e-5)
    np.testing.assert_allclose(evaluated.reshape(rows.shape), expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(norm), before)


def test_gradient_is_that_of_the_closed_form():
    """dL/dx = (g - mean(g) - y mean(g y)) / std for a scale of 1."""
    x, weights = _input(1, 1.5, 2.0), np.random.default_rng(2).normal(size=(6, 4, 3, _CHANNELS))
    norm = BatchNorm(_CHANNELS)
    norm.mean.set_value(jnp.full(_CHANNELS, 1.0))

    def loss(values):
        return jnp.sum(nnx.clone(norm)(values, train=True) * weights)

    y, axes = _expected(x), (0, 1, 2)
    std = np.sqrt(x.astype(np.float64).var(axes) + 1e-5)
    expected = (weights - weights.mean(axes) - y * (weights * y).mean(axes)) / std
    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(x)), expected, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_channel_is_no_division_by_zero(value):
    x = jnp.full((8, _CHANNELS), value)
    gradient = jax.grad(lambda v: jnp.sum(BatchNorm(_CHANNELS)(v, train=True) ** 2))(x)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize(("images", "parts"), [(8, 4), (8, 1), (6, 4), (7, 3), (3, 5)])
def test_parts_are_normalised_as_batches_of_their_own(images, parts):
    """Cut as `torch.chunk` cuts; the running statistics and the gradients too."""
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 3.0, (images, 4, 3, _CHANNELS)).astype(np.float32)
    weights = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    size = -(-images // parts)

    def whole(x):
        norm = BatchNorm(_CHANNELS, parts=parts)
        y = norm(x, train=True)
        return jnp.sum(y * weights), (y, norm.mean[...], norm.var[...])

    def apart(x):
        norms = [BatchNorm(_CHANNELS) for _ in range(0, images, size)]
        chunks = [x[start : start + size] for start in range(0, images, size)]
        y = jnp.concatenate([n(c, train=True) for n, c in zip(norms, chunks, strict=True)])
        return jnp.sum(y * weights), (y, norms[0].mean[...], norms[0].var[...])

    found, expected = (jax.jit(jax.grad(f, has_aux=True))(x) for f in (whole, apart))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected)
