"""Where the images of a compiled call come from: the devices' memory, or the host.

Both feeds give the same batches to the same step. Images that fit the devices' memory are put
there once, and a call is sent no more than indexes; else a Grain pipeline reads the batches of the
next calls on the host and has them on the devices when they are wanted.
"""

from collections.abc import Iterator
from typing import Any, Protocol, Self

import grain
import jax
import numpy as np

from sicl_jax import devices
from sicl_jax.methods.base import Batch, TrainingData

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
            size: Steps of a call; the last one takes what is left.
        """

    def batch(self, resident: Any, step: Any) -> Batch:
        """The batch of one step of a call; traceable."""


def choose(data: TrainingData, uses_masks: bool, budget_gb: float) -> Feed:
    """The resident feed if the images fit the budget, else the one from the host.

    Args:
        data: The training split.
        uses_masks: Whether batches have masks.
        budget_gb: Memory for images on each device, in 10^9 bytes; 0: a share of what it has.
    """
    budget = budget_gb * 1e9 or _SHARE_OF_MEMORY * devices.memory_bytes()
    arrays = (data.images, data.masks) if uses_masks else (data.images,)
    row = sum(array[:1].nbytes for array in arrays)
    fits = row * devices.padded_rows(len(data)) / devices.mesh().size <= budget
    return (ResidentFeed if fits else HostFeed)(data, uses_masks)


class ResidentFeed:
    """All images on the devices, split by rows; batches are gathered inside the call."""

    steps_per_call = 50

    def __init__(self, data: TrainingData, uses_masks: bool):
        indexes = devices.put_rows(np.arange(len(data), dtype=np.int32))
        masks = devices.put_rows(data.masks) if uses_masks else None
        self.resident = Batch(indexes, devices.put_rows(data.images), masks)

    @classmethod
    def abstract(cls, num_images: int, image_size: tuple[int, int], uses_masks: bool) -> Self:
        """A feed whose images have shapes and shardings alone: enough to compile a call for it."""
        rows = devices.padded_rows(num_images)

        def described(dtype, *shape: int) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=devices.by_rows())

        feed = cls.__new__(cls)
        masks = described(np.uint8, *image_size) if uses_masks else None
        feed.resident = Batch(described(np.int32), described(np.uint8, *image_size, 3), masks)
        return feed

    def calls(self, batches: np.ndarray, size: int) -> Iterator[jax.Array]:
        """Indexes (S, B) of each call, on all devices (`Feed.calls`)."""
        for first in range(0, len(batches), size):
            yield devices.put(batches[first : first + size], devices.replicated())

    def batch(self, resident: Batch, step: jax.Array) -> Batch:
        """The images at indexes (B,), split over the devices."""
        rows = jax.tree.map(lambda array: array[step], resident)
        split = jax.tree.map(lambda _: devices.by_rows(), rows)
        rows = jax.lax.with_sharding_constraint(rows, split)
        return Batch(step, rows.images, rows.masks)


class HostFeed:
    """Images stay on the host; threads read them and put them on the devices ahead of the calls.

    Every process reads the rows of its own devices only.
    """

    steps_per_call = 10  # These images, and those of the calls ahead, lie on the devices.

    def __init__(self, data: TrainingData, uses_masks: bool):
        self.resident = None
        self._images = data.images
        self._masks = data.masks if uses_masks else None

    def calls(self, batches: np.ndarray, size: int) -> Iterator[Batch]:
        """Batches (S, B, ...) of each call (`Feed.calls`)."""

        def read(call: int) -> Batch:
            return self._put(batches[call * size : (call + 1) * size])

        num_calls = -(-len(batches) // size)
        options = grain.ReadOptions(num_threads=_READERS, prefetch_buffer_size=_CALLS_AHEAD)
        return iter(grain.MapDataset.range(num_calls).map(read).to_iter_dataset(options))

    def batch(self, resident: None, step: Batch) -> Batch:  # noqa: ARG002 (nothing is resident)
        """The step's batch as it was sent."""
        return step

    def _put(self, indexes: np.ndarray) -> Batch:
        masks = None if self._masks is None else _put_taken(self._masks, indexes)
        indexes_everywhere = devices.put(indexes, devices.replicated())
        return Batch(indexes_everywhere, _put_taken(self._images, indexes), masks)


def _put_taken(array: np.ndarray, indexes: np.ndarray) -> jax.Array:
    """`array[indexes]`, (S, B, ...), each device's part of a batch read for that device alone."""
    return devices.put_parts(
        indexes.shape + array.shape[1:],
        devices.by_batch(),
        lambda part: np.take(array, indexes[part[:2]], axis=0),
    )
