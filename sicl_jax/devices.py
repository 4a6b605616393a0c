"""The one device mesh, and the ways arrays lie on it: split by rows, or whole everywhere.

The same program runs on one CPU, one GPU or many: a batch is split over the mesh's only axis,
`data`; weights are replicated; resident images and memory banks are split by rows. What several
processes have to agree on is in `processes.py`.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from sicl_jax.errors import UsageError

AXIS = "data"
Index = tuple[slice, ...]
_used: list[jax.Device] = []  # All if empty.


@functools.cache
def mesh() -> jax.sharding.Mesh:
    """All devices of all processes, or those that `use` has left, along one axis."""
    devices = _used or jax.devices()
    kinds = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=kinds, devices=devices)


def use(count: int) -> None:
    """Leaves the first so many devices to this process; call it before any other work.

    Raises:
        UsageError: There are fewer, or there are other processes.
    """
    if jax.process_count() > 1:
        raise UsageError("--devices: of one process alone; several use all that they see")
    if count > jax.device_count():
        raise UsageError(f"--devices {count}: this machine has {jax.device_count()}")
    _used[:] = jax.devices()[:count]
    mesh.cache_clear()


def use_own() -> None:
    """Leaves its own devices to each process; for work that they share without working together."""
    _used[:] = jax.local_devices()
    mesh.cache_clear()


def on_cpu() -> bool:
    """Whether the mesh's devices are CPUs."""
    return mesh().devices.flat[0].platform == "cpu"


def by_rows() -> NamedSharding:
    """Sharding of an array whose first axis is split over the devices."""
    return NamedSharding(mesh(), PartitionSpec(AXIS))


def by_batch() -> NamedSharding:
    """Sharding of a stack of batches: its second axis is split over the devices."""
    return NamedSharding(mesh(), PartitionSpec(None, AXIS))


def replicated() -> NamedSharding:
    """Sharding of an array that every device holds whole."""
    return NamedSharding(mesh(), PartitionSpec())


def padded_rows(num_rows: int) -> int:
    """`num_rows` rounded up, so that every device holds equally many."""
    return -(-num_rows // mesh().size) * mesh().size


def put_parts(
    shape: tuple[int, ...], sharding: NamedSharding, part: Callable[[Index], np.ndarray]
) -> jax.Array:
    """An array of which each process reads its own devices' parts alone.

    Args:
        shape: Of the whole array.
        sharding: How it lies on the mesh.
        part: Maps the slices of the whole that a device holds to their host array.
    """
    places = sharding.addressable_devices_indices_map(shape)
    parts = [jax.device_put(part(index), device) for device, index in places.items()]
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Puts a host array that every process holds alike onto the mesh."""
    array = np.asarray(array)
    return put_parts(array.shape, sharding, lambda index: array[index])


def put_rows(array: np.ndarray) -> jax.Array:
    """Splits a host array by rows over the devices, with rows of zeros after it as needed."""
    num_rows = padded_rows(len(array))

    def part(index):
        start, stop, _ = index[0].indices(num_rows)
        rows = np.asarray(array[start:stop])
        missing = stop - start - len(rows)
        return np.pad(rows, ((0, missing),) + ((0, 0),) * (rows.ndim - 1)) if missing else rows

    return put_parts((num_rows, *array.shape[1:]), by_rows(), part)


def put_replicated(tree: Any) -> Any:
    """Puts every leaf of a pytree of host arrays onto all devices, whole."""
    return jax.tree.map(lambda leaf: put(leaf, replicated()), tree)


def fetch(array: jax.Array | np.ndarray) -> np.ndarray:
    """The whole array on this process's host, also when other processes hold parts of it."""
    if isinstance(array, np.ndarray) or array.is_fully_addressable:
        return np.asarray(array)
    return np.asarray(_gather()(array).addressable_data(0))


@functools.cache
def _gather():
    return jax.jit(lambda array: array, out_shardings=replicated())


def memory_bytes() -> int:
    """Memory of one device; of this machine, divided among its devices, where they are CPUs."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return installed // jax.local_device_count()


def compute_dtype(name: str):
    """The encoders' computation type: `'float32'`, `'bfloat16'`, or `'auto'` by the device."""
    if name == "auto":
        name = "float32" if on_cpu() else "bfloat16"
    return {"float32": None, "bfloat16": jax.numpy.bfloat16}[name]
