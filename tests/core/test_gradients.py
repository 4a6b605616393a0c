"""Gradients at the points where a formula has none, or more than one, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np

from sicl_jax.losses import hard_triplet
from sicl_jax.models.layers import l2_normalize
from sicl_jax.models.resnet import largest_pool


def test_equal_embeddings_share_the_gradient_of_the_triplet_loss():
    """Four points of a line: distances are differences, and every margin is violated."""
    labels, margin = jnp.array([0, 0, 1, 1]), 10.0
    points = jnp.array([[0.0], [0.0], [1.0], [3.0]])
    value, gradient = jax.jit(jax.value_and_grad(hard_triplet), static_argnums=2)(
        points, labels, margin
    )
    # Positives 0, 0, 2, 2 and negatives 1, 1, 1, 3, both of the last two to either of the equals.
    np.testing.assert_allclose(value, margin + (4 - 6) / 4, rtol=1e-6)
    np.testing.assert_allclose(gradient[:, 0], np.array([2, 2, -5, 1]) / 4, rtol=1e-6)


def test_a_batch_of_one_embedding_has_no_gradient():
    same = jnp.full((6, 5), 0.3)
    labels = jnp.array([0, 0, 1, 1, 2, 2])
    value, gradient = jax.jit(jax.value_and_grad(hard_triplet), static_argnums=2)(same, labels, 0.7)
    np.testing.assert_allclose(value, 0.7, rtol=1e-6)
    np.testing.assert_array_equal(gradient, 0)


def test_the_largest_position_has_the_gradient_and_of_equal_ones_the_first():
    maps = np.zeros((2, 2, 3, 2), np.float32)
    maps[0, 1, 2, 0] = maps[0, 1, 1, 0] = 5  # Equal ones.
    maps[1, 0, 1, 1] = 7
    weights = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    pooled, pull = jax.vjp(jax.jit(largest_pool), jnp.asarray(maps))
    (gradient,) = pull(weights)
    expected = np.zeros_like(maps)
    expected[0, 1, 1, 0], expected[1, 0, 1, 1] = 1, 4
    expected[0, 0, 0, 1], expected[1, 0, 0, 0] = 2, 3  # Of nothing but zeros.
    np.testing.assert_array_equal(pooled, maps.max((1, 2)))
    np.testing.assert_array_equal(gradient, expected)


def test_a_row_of_zeros_is_normalised_as_torch_does():
    x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    rows, pull = jax.vjp(jax.jit(l2_normalize), x)
    (gradient,) = pull(jnp.array([[1.0, -2.0], [1.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0, 0], [0.6, 0.8]], rtol=1e-6)
    # (g - y (y . g)) / |x|; below 1e-12 torch divides by that and takes it for a constant.
    np.testing.assert_allclose(gradient, [[1e12, -2e12], [0.128, -0.096]], rtol=1e-5)
