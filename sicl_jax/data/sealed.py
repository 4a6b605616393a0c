"""Arrays of bytes in NumPy's file format, followed by a checksum of all that comes before it."""

import io
import math
import pathlib
import zlib
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from numpy.lib import format as npy

_SEAL_BYTES = 4
_BLOCK_BYTES = 1 << 20


def write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Begins an array of uint8; its bytes, row after row, and `seal` must follow."""
    file.write(_header(shape))


def seal(file: BinaryIO) -> None:
    """Ends a file, open for reading and writing, with the CRC-32 of what was written to it."""
    size = file.tell()
    file.seek(0)
    checksum = _checksum(file, size)
    file.seek(size)
    file.write(checksum)


def read(path: pathlib.Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
    """Opens a sealed array as a read-only memory map, having read all of it once.

    Raises:
        ValueError: The file holds something else than an array of this shape, or a byte changed.
        OSError: The file cannot be read.
    """
    header = _header(shape)
    size = len(header) + math.prod(shape)
    with path.open("rb") as file:
        if file.read(len(header)) != header:
            raise ValueError(f"does not begin like an array of shape {shape}")
        file.seek(0)
        checksum = _checksum(file, size)
        if file.read(_SEAL_BYTES + 1) != checksum:
            raise ValueError("its checksum does not match")
    return np.memmap(path, np.uint8, "r", len(header), shape)


def _header(shape: tuple[int, ...]) -> bytes:
    fields = {"descr": npy.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False}
    file = io.BytesIO()
    npy.write_array_header_1_0(file, fields | {"shape": shape})
    return file.getvalue()


def _checksum(file: BinaryIO, size: int) -> bytes:
    value = 0
    while size > 0 and (block := file.read(min(size, _BLOCK_BYTES))):
        value = zlib.crc32(block, value)
        size -= len(block)
    return value.to_bytes(_SEAL_BYTES, "little")
