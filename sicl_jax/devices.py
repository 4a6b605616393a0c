"""The one device mesh, and the two ways arrays lie on it: split by rows, or whole everywhere.

The same program runs on one CPU, one GPU or many: a batch is split over the mesh's only axis,
`data`; weights are replicated; resident images and memory banks are split by rows.
"""

import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

AXIS = "data"


@functools.cache
def mesh() -> jax.sharding.Mesh:
    """All devices of all processes, along one axis."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))


def by_rows() -> NamedSharding:
    """Sharding of an array whose first axis is split over the devices."""
    return NamedSharding(mesh(), PartitionSpec(AXIS))


def replicated() -> NamedSharding:
    """Sharding of an array that every device holds whole."""
    return NamedSharding(mesh(), PartitionSpec())


def padded_rows(num_rows: int) -> int:
    """`num_rows` rounded up, so that every device holds equally many."""
    return -(-num_rows // jax.device_count()) * jax.device_count()


def put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Puts a host array that every process holds alike onto the mesh."""
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def put_rows(array: np.ndarray) -> jax.Array:
    """Splits a host array by rows over the devices, with rows of zeros after it as needed."""
    missing = padded_rows(len(array)) - len(array)
    if missing:
        array = np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
    return put(array, by_rows())


def put_replicated(tree: Any) -> Any:
    """Puts every leaf of a pytree of host arrays onto all devices, whole."""
    return jax.tree.map(lambda leaf: put(leaf, replicated()), tree)


def fetch(array: jax.Array) -> np.ndarray:
    """The whole array on this process's host, also when other processes hold parts of it."""
    if array.is_fully_addressable:
        return np.asarray(array)
    whole = jax.jit(lambda x: x, out_shardings=replicated())(array)
    return np.asarray(whole.addressable_data(0))


def compute_dtype(name: str):
    """The encoders' computation type: `'float32'`, `'bfloat16'`, or `'auto'` by the device."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return {"float32": jax.numpy.float32, "bfloat16": jax.numpy.bfloat16}[name]
