"""A trained RGB encoder for other programs: PyTorch, safetensors, StableHLO, ONNX.

One module per format, each with a function `to_bytes(model)`.
"""

import importlib
import pathlib

from sicl_jax.data.files import atomic_file
from sicl_jax.errors import UserError
from sicl_jax.inference import Model

FORMATS = {
    "torch": ".pth",
    "safetensors": ".safetensors",
    "stablehlo": ".stablehlo",
    "onnx": ".onnx",
}


def write(model: Model, path: pathlib.Path, format_: str) -> None:
    """Writes the RGB encoder of a model; the file appears whole or not at all.

    Args:
        model: What `sicl_jax.inference.load` gives.
        path: The file; folders above it are made.
        format_: One of `FORMATS`.

    Raises:
        UserError: The file cannot be written.
    """
    content = importlib.import_module(f"sicl_jax.export.{format_}_format").to_bytes(model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
