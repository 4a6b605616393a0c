"""Writes the zip archive that `torch.save` writes, without PyTorch.

The archive holds a pickle, which describes the tensors, and one uncompressed
entry per tensor. `torch.load(path, weights_only=True)` reads it.
"""

from __future__ import annotations

import io
import os
import pathlib
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from sicl_jax.data.files import atomic_file

_STORAGES = {
    np.dtype("f4"): "FloatStorage",
    np.dtype("f8"): "DoubleStorage",
    np.dtype("f2"): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype("i8"): "LongStorage",
    np.dtype("i4"): "IntStorage",
    np.dtype("i2"): "ShortStorage",
    np.dtype("i1"): "CharStorage",
    np.dtype("u1"): "ByteStorage",
    np.dtype("?"): "BoolStorage",
}
_ROOT = "archive"
_ALIGNMENT = 64  # As torch.save does, so that torch.load(mmap=True) finds aligned numbers.


def to_bytes(content: Mapping[str, Any]) -> bytes:
    """The archive of named arrays; equal arrays give equal bytes.

    Args:
        content: Arrays by name; or nested mappings of such, with whole numbers, floats and strings
            beside them, as in `{"state_dict": {...}, "epoch": 60}`.

    Raises:
        TypeError: A value of a type that the format does not hold.
    """
    storages: list[np.ndarray] = []
    pickled = b"\x80\x02" + b"".join(_pickled(content, storages)) + b"."
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "data.pkl", pickled)
        _add(archive, "byteorder", b"little")
        for key, storage in enumerate(storages):
            _add(archive, f"data/{key}", storage.tobytes())
        _add(archive, "version", b"3\n")
    return buffer.getvalue()


def save_state_dict(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Writes such an archive to a file, which appears whole or not at all.

    Raises:
        TypeError: As for `to_bytes`.
        OSError: The file cannot be written.
    """
    data = to_bytes(content)
    with atomic_file(pathlib.Path(path)) as file:
        file.write(data)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Adds an entry without a date, its data aligned by padding in the header's extra field."""
    entry = zipfile.ZipInfo(f"{_ROOT}/{name}")
    start = archive.fp.tell() + 30 + len(entry.filename.encode()) + 4
    padding = -start % _ALIGNMENT
    entry.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(entry, data)


def _pickled(value: Any, storages: list[np.ndarray]) -> Iterator[bytes]:
    if isinstance(value, Mapping):
        yield b"ccollections\nOrderedDict\n)R("
        for name, item in value.items():
            yield _text(name)
            yield from _pickled(item, storages)
        yield b"u"
    elif isinstance(value, str):
        yield _text(value)
    elif isinstance(value, float):
        yield b"G" + struct.pack(">d", value)
    elif isinstance(value, int):
        yield _whole(value)
    elif isinstance(value, np.ndarray | np.generic):
        yield from _tensor(np.asarray(value), storages)
    else:
        raise TypeError(f"a weight file cannot hold a {type(value).__name__}")


def _text(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _whole(value: int) -> bytes:
    encoded = int(value).to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_whole, values)) + b"t"


def _tensor(array: np.ndarray, storages: list[np.ndarray]) -> Iterator[bytes]:
    """A call of torch's `_rebuild_tensor_v2(storage, offset, shape, strides, grad, hooks)`."""
    if array.dtype not in _STORAGES:
        raise TypeError(f"a weight file cannot hold numbers of the type {array.dtype}")
    array = np.ascontiguousarray(array).reshape(array.shape)
    yield b"ctorch._utils\n_rebuild_tensor_v2\n(("
    yield _text("storage") + f"ctorch\n{_STORAGES[array.dtype]}\n".encode()
    yield _text(str(len(storages))) + _text("cpu") + _whole(array.size) + b"tQ"
    yield _whole(0) + _tuple(array.shape)
    yield _tuple(tuple(stride // array.itemsize for stride in array.strides))
    yield b"\x89ccollections\nOrderedDict\n)RtR"
    storages.append(array)
