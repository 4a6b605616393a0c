"""Draws initial weights on the host.

The modules' own initialisers give the same distributions, but each array of its own shape is a
program for XLA to compile: 10 to 30 seconds for a model whose weights NumPy draws in one.
"""

import math

import jax
import numpy as np

_CONSTANTS = {"scale": 1.0, "var": 1.0, "bias": 0.0, "mean": 0.0}


def draw(abstract: jax.Array, seed: int):
    """Fills a pytree of shapes: kernels Kaiming normal (fan out), norms at one, the rest zero.

    Args:
        abstract: Pytree of `jax.ShapeDtypeStruct` whose leaves are named `kernel` (..., I, O),
            `scale`, `bias`, `mean` or `var`.
        seed: Decides the kernels.

    Returns:
        The same pytree of float32 NumPy arrays.
    """
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        name = next(key.key for key in reversed(path) if hasattr(key, "key"))
        if name != "kernel":
            return np.full(leaf.shape, _CONSTANTS[name], np.float32)
        fan_out = math.prod(leaf.shape) // leaf.shape[-2]
        return rng.standard_normal(leaf.shape, np.float32) * np.float32(math.sqrt(2 / fan_out))

    return jax.tree_util.tree_map_with_path(fill, abstract)
