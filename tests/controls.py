"""How far rounding alone moves a result: the same program on inputs off by one last bit.

XLA's float32 differs from machine to machine and from program to program, so a test that compares
two programs in float32 measures its tolerance in this way. (What follows an optimiser is compared
in float64: there rounding is amplified too far to say anything.)
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

# Two programs round everywhere, nudged inputs are rounded once.
_FACTOR = 10.0


def nudged(tree: Any, seed: int = 0) -> Any:
    """The tree as host arrays, its floats moved to a neighbouring one, up or down at random."""
    rng = np.random.default_rng(seed)

    def move(leaf):
        leaf = np.asarray(leaf)
        if leaf.dtype.kind != "f":
            return leaf
        towards = rng.choice(np.array([-np.inf, np.inf], leaf.dtype), leaf.shape)
        return np.where(leaf == 0, leaf, np.nextafter(leaf, towards))

    return jax.tree.map(move, tree)


def tolerance(program: Callable[[Any], np.ndarray], inputs: Any, *, seeds: int = 2) -> float:
    """What another program of the same function may differ by, in absolute terms.

    Args:
        program: From a tree of arrays to numbers.
        inputs: The tree.
        seeds: Controls, of which the largest difference counts.
    """
    exact = np.asarray(program(inputs))
    off = [np.abs(program(nudged(inputs, seed)) - exact).max() for seed in range(seeds)]
    return _FACTOR * float(max(*off, np.finfo(np.float32).eps))
