"""Numbers that are not finite: noticed at the step, named by the term, traced to the operation."""

import contextlib
import traceback
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

import sicl_jax
from sicl_jax import devices
from sicl_jax.methods.state import TrainState


def first_not_finite(metrics: Mapping[str, np.ndarray]) -> tuple[int, list[str]] | None:
    """The first step of a call with a metric that is not finite, and the names of all such.

    Args:
        metrics: Each (S,), for the S steps of the call.

    Returns:
        The step's index and its offending terms, or None. `loss`, their sum, is named only where
        no term is at fault.
    """
    bad = {name: ~np.isfinite(values) for name, values in metrics.items()}
    steps = np.flatnonzero(np.any(list(bad.values()), axis=0))
    if not len(steps):
        return None
    first = int(steps[0])
    names = sorted(name for name, flags in bad.items() if flags[first])
    terms = [name for name in names if name != "loss"]
    return first, terms or names


@jax.jit
def _flags(weights):
    return jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), weights)


def weights_not_finite(state: TrainState) -> list[str]:
    """Names of a state's weights that hold a number that is not finite.

    On CPUs NumPy looks where they lie: a program for it takes seconds to compile.
    """
    if devices.on_cpu():  # Every device has all of each.
        flags = jax.tree.map(
            lambda leaf: np.all(np.isfinite(np.asarray(leaf.addressable_data(0)))), state.weights
        )
    else:
        flags = jax.device_get(_flags(state.weights))
    leaves = jax.tree_util.tree_leaves_with_path(flags)
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, ok in leaves if not ok]


@contextlib.contextmanager
def debugging(enabled: bool) -> Iterator[None]:
    """While the block runs, JAX checks every result and repeats a bad one operation by operation.

    The error is a `FloatingPointError`; see `operation`.
    """
    with jax.debug_nans(enabled):
        yield


def operation(error: FloatingPointError) -> str:
    """The operation that made a number that is not one, and the line of this package it is on."""
    package = sicl_jax.__path__[0]
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if package in frame.filename
    ]
    what = str(error).strip().splitlines()[0].removesuffix(".")
    if not frames:
        return what
    name = frames[-1].filename.removeprefix(package).lstrip("/")
    return f"{what}, sicl_jax/{name}:{frames[-1].lineno} in {frames[-1].name}"
