"""Reads PyTorch's weight files and safetensors, without PyTorch.

Three formats are told apart by their first bytes: the zip archive that
`torch.save` writes since 1.6 and TorchScript too, the run of pickles that
`torch.save` wrote before, and safetensors. Nothing in a file is executed, and
no file can ask for more memory than its own size.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from sicl_jax.errors import UserError, one_line
from sicl_jax.weights import torch_pickle
from sicl_jax.weights.torch_writer import save_state_dict

__all__ = ["load_state_dict", "save_state_dict"]

_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "ComplexFloatStorage": np.dtype("<c8"),
    "ComplexDoubleStorage": np.dtype("<c16"),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "uint64": np.dtype("<u8"),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
_SAFETENSORS_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"},
}
# Where training scripts put the weights among the other things that they save.
_ENTRIES = ("state_dict", "model_state_dict", "model")
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# What the parsers raise on bytes not of their format; zipfile's are those of the second line.
_MALFORMED = (
    *(ValueError, safetensors.SafetensorError),
    *(EOFError, NotImplementedError, struct.error, zipfile.BadZipFile),
)
_DAMAGED = "the file is damaged or not a weight file; copy or download it again"


def load_state_dict(
    path: str | os.PathLike[str], *, strip_prefix: str = ""
) -> dict[str, np.ndarray]:
    """Reads the named arrays of a weight file.

    Args:
      path: a `torch.save` file (zip or older format) of a state dict, or of a dict that holds one
        under `state_dict`, `model_state_dict` or `model`; a TorchScript archive, whose module's
        tensors get the names that its `state_dict()` would give them; or a safetensors file.
      strip_prefix: removed from each name that starts with it (`"module."` undoes DataParallel).

    Returns:
      Arrays by name, in the file's order, in the file's number types (bfloat16 as `ml_dtypes`).
      They are read-only and may share memory, as tensors in the file may.

    Raises:
      UserError: the file is missing, damaged, or holds anything but tensors and plain containers.
    """
    path = Path(path)
    try:
        arrays = _read(path)
    except torch_pickle.RefusedError as error:
        raise UserError(
            f"{path}: holds {one_line(error)}, which is neither a tensor nor a plain container; "
            "save the model's state_dict() alone and load that file"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except _MALFORMED as error:
        raise UserError(f"{path}: {one_line(error)}; {_DAMAGED}") from error
    return _stripped(path, arrays, strip_prefix)


def _read(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":  # Behind the header's length, which may look like either of the others.
        return _read_safetensors(path.read_bytes())
    if start.startswith(b"PK"):
        return _read_zip(path)
    if start.startswith(b"\x80"):
        return _read_legacy(path.read_bytes())
    raise ValueError("is neither a PyTorch nor a safetensors file")


def _read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    arrays = {}
    for name, entry in safetensors.deserialize(data):
        dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ValueError(f"{name} has the number type {entry['dtype']}, which is not supported")
        arrays[name] = _numbers(bytes(entry["data"]), np.dtype(dtype)).reshape(entry["shape"])
    return arrays


def _read_zip(path: Path) -> dict[str, np.ndarray]:
    """Reads the archive: `*/data.pkl` describes the tensors, `*/data/KEY` holds their numbers."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        roots = [name[:-8] for name in entries if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError("is a zip archive, but not one that torch.save writes")
        root, left = roots[0], path.stat().st_size

        def read(name: str) -> bytes:
            nonlocal left
            entry = entries.get(root + name)
            if entry is None:
                raise ValueError(f"lacks {root}{name}")
            # torch.save never compresses; entries that do, or that overlap, are made to swell.
            left -= entry.file_size
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or left < 0:
                raise ValueError(f"holds {root}{name} in a form that torch.save does not write")
            return archive.read(entry)

        if f"{root}byteorder" in entries:
            _check_byteorder(read("byteorder") == b"little")
        content = torch_pickle.load(io.BytesIO(read("data.pkl")))
        return _arrays(_state_dict(content), lambda storage: read(f"data/{storage.key}"))


def _read_legacy(data: bytes) -> dict[str, np.ndarray]:
    """Reads five pickles (magic, version, system, content, storage keys), then the storages."""
    file = io.BytesIO(data)
    if torch_pickle.load(file) != _LEGACY_MAGIC or torch_pickle.load(file) != _LEGACY_PROTOCOL:
        raise ValueError("is a pickle, but not one that torch.save writes")
    system = torch_pickle.load(file)
    _check_byteorder(type(system) is dict and system.get("little_endian") is True)
    storages: dict[str, torch_pickle.Storage] = {}
    content, keys = torch_pickle.load(file, storages), torch_pickle.load(file)
    if type(keys) is not list or not all(type(key) is str and key in storages for key in keys):
        raise ValueError("its list of storages is damaged")
    spans = {}
    for key in keys:
        header = file.read(8)
        if len(header) < 8:
            raise ValueError("its end is missing")
        size = int.from_bytes(header, "little") * _dtype(storages[key].dtype).itemsize
        spans[key] = (file.tell(), file.tell() + size)
        file.seek(min(file.tell() + size, len(data)))

    def read(storage: torch_pickle.Storage) -> bytes:
        if storage.key not in spans or spans[storage.key][1] > len(data):
            raise ValueError(f"lacks the numbers of storage {storage.key}")
        return data[slice(*spans[storage.key])]

    return _arrays(_state_dict(content), read)


def _check_byteorder(little: bool) -> None:
    if not little:
        raise ValueError("was written on a big-endian machine, which is not supported")


def _state_dict(content: Any) -> dict[str, torch_pickle.Tensor]:
    """Finds the named tensors in what the file holds."""
    if type(content) is torch_pickle.Module:
        content = _tensors_of(content)
    if type(content) is dict:
        nested = (content[name] for name in _ENTRIES if type(content.get(name)) is dict)
        content = next(nested, content)
    if type(content) is not dict or not content:
        raise ValueError("holds no state dict")
    for name, value in content.items():
        if type(name) is not str or type(value) is not torch_pickle.Tensor:
            raise ValueError(f"holds a {type(value).__name__} under {name!r:.80}, not a tensor")
    return content


def _tensors_of(module: torch_pickle.Module) -> dict[str, torch_pickle.Tensor]:
    """The tensors of a TorchScript module and of the modules in it, by dotted names."""
    tensors = {}
    seen = {id(module)}
    pending = [("", module)]
    while pending:
        prefix, module = pending.pop()
        inner = []
        for name, value in module.attributes.items():
            if type(value) is torch_pickle.Tensor:
                tensors[f"{prefix}{name}"] = value
            elif type(value) is torch_pickle.Module:
                if id(value) in seen:  # A ring of modules would never end.
                    raise ValueError("its modules share one module")
                seen.add(id(value))
                inner.append((f"{prefix}{name}.", value))
        pending += reversed(inner)
    return tensors


def _arrays(
    tensors: dict[str, torch_pickle.Tensor], read: Callable[[torch_pickle.Storage], bytes]
) -> dict[str, np.ndarray]:
    numbers: dict[tuple[str, np.dtype], np.ndarray] = {}
    arrays = {}
    for name, tensor in tensors.items():
        dtype = _dtype(tensor.dtype)
        key = (tensor.storage.key, dtype)
        if key not in numbers:
            numbers[key] = _numbers(read(tensor.storage), dtype)
        try:
            arrays[name] = _window(tensor, numbers[key])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return arrays


def _dtype(name: str) -> np.dtype:
    if name not in _DTYPES:
        raise ValueError(f"has numbers of the type {name}, which is not supported")
    return _DTYPES[name]


def _numbers(data: bytes, dtype: np.dtype) -> np.ndarray:
    if dtype == np.bool_:  # NumPy takes a byte of a bool to be 0 or 1; a file may hold others.
        return np.frombuffer(data, np.uint8) != 0
    return np.frombuffer(data, dtype)


def _window(tensor: torch_pickle.Tensor, numbers: np.ndarray) -> np.ndarray:
    """A tensor's view on its storage, checked to lie within it."""
    storage = tensor.storage
    if storage.dtype != "UntypedStorage":  # Its length is in bytes and its end that of `numbers`.
        if storage.offset + storage.length > len(numbers):
            raise ValueError("its storage is cut short")
        numbers = numbers[storage.offset : storage.offset + storage.length]
    count = math.prod(tensor.shape)
    last = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if count > len(numbers) or (count and last >= len(numbers)):
        raise ValueError("reaches beyond its storage")
    if not count:
        return np.zeros([min(size, 2**31) for size in tensor.shape], numbers.dtype)
    strides = [
        stride * numbers.itemsize if size > 1 else 0
        for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    ]
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :], tensor.shape, strides, writeable=False
    )


def _stripped(path: Path, arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    stripped = {name.removeprefix(prefix): array for name, array in arrays.items()}
    if len(stripped) < len(arrays):
        raise UserError(f"{path}: holds names both with and without {prefix!r}; rename one of them")
    return stripped
