"""Layers that take another way than XLA's own, against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sicl_jax.models.layers import Conv, draw


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "channels", "size"),
    [
        (7, 2, None, 3, (11, 8)),  # The first convolution of a network.
        (3, 2, 0, 1, (6, 10)),
        (3, 1, None, 4, (4, 2)),  # Kernels that are larger than the map they give.
        (3, 2, None, 4, (7, 4)),
        (5, 3, 1, 4, (6, 9)),
    ],
)
def test_a_convolution_is_what_it_is_defined_to_be(kernel, stride, padding, channels, size):
    conv = Conv(channels, 4, kernel, stride, padding=padding)
    draw(conv, 0)
    x = np.random.default_rng(0).normal(size=(2, *size, channels)).astype(np.float32)
    weights = conv.kernel[...]

    def plain(x, weights):
        pads = ((conv.padding, conv.padding),) * 2
        names = ("NHWC", "HWIO", "NHWC")
        strides = (stride, stride)
        return jax.lax.conv_general_dilated(x, weights, strides, pads, dimension_numbers=names)

    graph, state = nnx.split(conv)

    def ours(x, weights):
        return nnx.merge(graph, jax.tree.map(lambda _: weights, state))(x)

    np.testing.assert_allclose(ours(x, weights), plain(x, weights), rtol=1e-4, atol=1e-5)

    def loss(function):
        return lambda x, weights: jnp.sum(jnp.sin(function(x, weights)))

    pairs = zip(*(jax.grad(loss(f), (0, 1))(x, weights) for f in (ours, plain)), strict=True)
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
