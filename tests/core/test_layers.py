"""Layers that take another way than XLA's own, against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sicl_jax.models.layers import Conv, draw


@pytest.mark.parametrize(
    ("kernel", "padding", "channels", "size"), [(7, None, 3, (11, 8)), (3, 0, 1, (6, 10))]
)
def test_the_first_convolution_is_one_of_stride_two(kernel, padding, channels, size):
    conv = Conv(channels, 4, kernel, 2, padding=padding)
    draw(conv, 0)
    x = np.random.default_rng(0).normal(size=(2, *size, channels)).astype(np.float32)
    weights = conv.kernel[...]

    def plain(x, weights):
        pads = ((conv.padding, conv.padding),) * 2
        names = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, weights, (2, 2), pads, dimension_numbers=names)

    graph, state = nnx.split(conv)

    def ours(x, weights):
        return nnx.merge(graph, jax.tree.map(lambda _: weights, state))(x)

    np.testing.assert_allclose(ours(x, weights), plain(x, weights), rtol=1e-4, atol=1e-5)

    def loss(function):
        return lambda x, weights: jnp.sum(jnp.sin(function(x, weights)))

    pairs = zip(*(jax.grad(loss(f), (0, 1))(x, weights) for f in (ours, plain)), strict=True)
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
