"""Where the images of a compiled call come from: the devices' memory, or the host.

Both feeds give the same batches to the same step. Images that fit the devices' memory are put
there once, and a call is sent no more than indexes; else a Grain pipeline reads the batches of the
next calls on the host and has them on the devices when they are wanted.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self

import grain
import jax
import numpy as np

from sicl_jax import devices
from sicl_jax.methods.embedder import batch_of
from sicl_jax.methods.state import Batch

# Of a device's memory, for images, where `config.data.device_budget_gb` is 0: the rest is the
# model's, its activations' and the memory banks'.
_SHARE_OF_MEMORY = 0.4
_CALLS_AHEAD = 2
_READERS = 2


class Feed(Protocol):
    """A source of batches.

    Attributes:
        resident: What stays on the devices from call to call; a pytree, handed to every call.
        steps_per_call: Steps that a call takes on accelerators unless the config says otherwise.
    """

    resident: Any
    steps_per_call: int

    def calls(self, batches: np.ndarray, size: int) -> Iterator[Any]:
        """What each call is sent: a pytree whose leaves begin with the call's steps.

        Args:
            batches: (S, B) int32, images of each step.
            size: Steps of a call; what is left comes in shorter ones, see `_slices`.
        """

    def batch(self, resident: Any, step: Any) -> Batch:
        """The batch of one step of a call; traceable."""


def choose(columns: Mapping[str, np.ndarray], budget_gb: float) -> Feed:
    """The resident feed if the columns fit the budget, else the one from the host.

    Args:
        columns: Of the training split, each (N, ...).
        budget_gb: Memory for them on each device, in 10^9 bytes; 0: a share of what it has.
    """
    budget = budget_gb * 1e9 or _SHARE_OF_MEMORY * devices.memory_bytes()
    row = sum(column[:1].nbytes for column in columns.values())
    count = len(next(iter(columns.values())))
    fits = row * devices.padded_rows(count) / devices.mesh().size <= budget
    return ResidentFeed(columns) if fits else HostFeed(columns)


class ResidentFeed:
    """All columns on the devices, split by rows; batches are gathered inside the call."""

    steps_per_call = 50

    def __init__(self, columns: Mapping[str, np.ndarray]):
        self.resident = {name: devices.put_rows(column) for name, column in columns.items()}

    @classmethod
    def abstract(cls, columns: Mapping[str, jax.ShapeDtypeStruct]) -> Self:
        """A feed of shapes and shardings alone: enough to compile a call for it."""
        feed = cls.__new__(cls)
        feed.resident = {
            name: jax.ShapeDtypeStruct(
                (devices.padded_rows(column.shape[0]), *column.shape[1:]),
                column.dtype,
                sharding=devices.by_rows(),
            )
            for name, column in columns.items()
        }
        return feed

    def calls(self, batches: np.ndarray, size: int) -> Iterator[jax.Array]:
        """Indexes (S, B) of each call, on all devices (`Feed.calls`)."""
        for steps in _slices(len(batches), size):
            yield devices.put(batches[steps], devices.replicated())

    def batch(self, resident: dict[str, jax.Array], step: jax.Array) -> Batch:
        """The rows at indexes (B,), split over the devices."""
        rows = {name: column[step] for name, column in resident.items()}
        split = {name: devices.by_rows() for name in rows}
        return batch_of(jax.lax.with_sharding_constraint(rows, split), step)


class HostFeed:
    """Images stay on the host; threads read them and put them on the devices ahead of the calls.

    Every process reads the rows of its own devices only.
    """

    steps_per_call = 10  # These images, and those of the calls ahead, lie on the devices.

    def __init__(self, columns: Mapping[str, np.ndarray]):
        self.resident = None
        self._columns = columns

    def calls(self, batches: np.ndarray, size: int) -> Iterator[Batch]:
        """Batches (S, B, ...) of each call (`Feed.calls`)."""
        slices = _slices(len(batches), size)

        def read(call: int) -> Batch:
            return self._put(batches[slices[call]])

        options = grain.ReadOptions(num_threads=_READERS, prefetch_buffer_size=_CALLS_AHEAD)
        return iter(grain.MapDataset.range(len(slices)).map(read).to_iter_dataset(options))

    def batch(self, resident: None, step: Batch) -> Batch:  # noqa: ARG002 (nothing is resident)
        """The step's batch as it was sent."""
        return step

    def _put(self, indexes: np.ndarray) -> Batch:
        rows = {name: _put_taken(column, indexes) for name, column in self._columns.items()}
        return batch_of(rows, devices.put(indexes, devices.replicated()), stacked=True)


def _slices(count: int, size: int) -> list[slice]:
    """The steps of each call: `size` of them, then what is left in pieces of sqrt(size) and of 1.

    So epochs of any length take three programs, where one call for all that is left would take a
    program for every length.
    """
    slices, start = [], 0
    for length in (size, math.isqrt(size), 1):
        while count - start >= length:
            slices.append(slice(start, start + length))
            start += length
    return slices


def _put_taken(array: np.ndarray, indexes: np.ndarray) -> jax.Array:
    """`array[indexes]`, (S, B, ...), each device's part of a batch read for that device alone."""
    return devices.put_parts(
        indexes.shape + array.shape[1:],
        devices.by_batch(),
        lambda part: np.take(array, indexes[part[:2]], axis=0),
    )
