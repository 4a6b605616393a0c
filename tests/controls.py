"""How far rounding alone moves a result: the same program on inputs off by one last bit.

XLA's float32 differs from machine to machine, and an optimiser amplifies the difference. A test
that compares two programs therefore measures its tolerance: it runs one of them once more on
`nudged` inputs and allows a small multiple of what that changes.
"""

import jax
import numpy as np

# Two programs round everywhere, nudged inputs are rounded once.
FACTOR = 10.0


def nudged(tree, seed: int = 0):
    """The tree of host arrays, its floats moved to a neighbouring one, up or down at random."""
    rng = np.random.default_rng(seed)

    def move(leaf):
        leaf = np.asarray(leaf)
        if leaf.dtype not in (np.float32, np.float64):
            return leaf
        towards = rng.choice(np.array([-np.inf, np.inf], leaf.dtype), leaf.shape)
        return np.where(leaf == 0, leaf, np.nextafter(leaf, towards))

    return jax.tree.map(move, tree)


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Norm of the difference over the norm of what is wanted."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    return np.linalg.norm(found - wanted) / max(np.linalg.norm(wanted), 1e-30)


def tolerance(wanted: dict, controls: list[dict], *, factor: float = FACTOR) -> float:
    """What arrays of these names may differ by, as `error` measures it.

    The largest over all names and controls, since one name's own is a matter of chance; and at
    least what rounding once makes of a number.
    """
    off = (error(control[name], wanted[name]) for control in controls for name in wanted)
    return factor * max(*off, float(np.finfo(np.float32).eps))


def assert_close(found: dict, wanted: dict, controls: list[dict], *, factor: float = FACTOR):
    """Asserts that arrays by name agree within the tolerance that the controls measure."""
    assert found.keys() == wanted.keys()
    allowed = tolerance(wanted, controls, factor=factor)
    errors = {name: error(found[name], wanted[name]) for name in wanted}
    worst = max(errors, key=errors.get)
    assert errors[worst] <= allowed, (worst, errors[worst], allowed)
