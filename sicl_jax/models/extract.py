"""Applies one compiled program to any number of rows in batches of one size."""

from collections.abc import Callable

import jax
import numpy as np

from sicl_jax import devices

_IN_FLIGHT = 4


def in_batches(
    apply: Callable[..., jax.Array],
    *arrays: np.ndarray,
    batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Maps host rows to host rows: `apply` sees batches of one size, so it compiles once.

    The last batch is filled up with its own last row. Some batches are in flight at a time, so
    that copies and computation overlap.

    Args:
        apply: Jitted function of as many batches (B, ...) as there are arrays; returns (B, D).
        *arrays: Host arrays of N rows each (memory-mapped ones are read batch by batch).
        batch_size: B, rounded up to a multiple of the number of devices; for fewer rows the next
            power of two above their number: few sizes are few programs.
        on_batch: Called with the number of rows done.

    Returns:
        (N, D) array of `apply`'s type.
    """
    num_rows = len(arrays[0])
    batch_size = devices.padded_rows(min(batch_size, 1 << (num_rows - 1).bit_length()))
    pending: list[tuple[jax.Array, int]] = []
    results: list[np.ndarray] = []

    def collect():
        features, count = pending.pop(0)
        results.append(devices.fetch(features)[:count])
        if on_batch is not None:
            on_batch(count)

    for start in range(0, num_rows, batch_size):
        batch = [np.asarray(array[start : start + batch_size]) for array in arrays]
        count = len(batch[0])
        if count < batch_size:
            fill = ((0, batch_size - count),)
            batch = [np.pad(b, fill + ((0, 0),) * (b.ndim - 1), mode="edge") for b in batch]
        pending.append((apply(*(devices.put(b, devices.by_rows()) for b in batch)), count))
        if len(pending) > _IN_FLIGHT:
            collect()
    while pending:
        collect()
    return np.concatenate(results)
