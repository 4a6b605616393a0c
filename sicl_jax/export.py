"""A trained model for other programs: PyTorch, safetensors, StableHLO, ONNX.

Weight files bear the published checkpoints' names (`Method.names`). Programs are the features as
they are tested: from columns as the model's stream reads them, `image` (batch, H, W, 3) uint8 RGB,
resized, to `features` (batch, D) float32, mirrored views summed where the config says so.

    embed = jax.export.deserialize(pathlib.Path("rgb.stablehlo").read_bytes()).call
    features = embed(images)
"""

import json
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import safetensors.numpy
from jax import export

from sicl_jax import devices, methods
from sicl_jax.data import files
from sicl_jax.errors import UserError
from sicl_jax.inference import Model
from sicl_jax.methods.embedder import features_of
from sicl_jax.weights import torch_names, torch_writer

_PLATFORMS = ("cpu", "cuda", "tpu")


def write(model: Model, path: pathlib.Path, format_: str) -> None:
    """Writes a model; the file appears whole or not at all.

    Args:
        model: What `sicl_jax.inference.load` gives.
        path: The file; folders above it are made.
        format_: One of `FORMATS`.

    Raises:
        UserError: The file cannot be written, or a package that the format needs is missing.
    """
    files.write(path, _WRITERS[format_](model))


def _torch(model: Model) -> bytes:
    """A checkpoint that the published code loads."""
    network = model.method.model(model.weights)
    epoch, steps = model.epoch or 0, model.step or 0
    return torch_writer.to_bytes(model.method.checkpoint(network, epoch=epoch, steps=steps))


def _safetensors(model: Model) -> bytes:
    """The same arrays alone, with a note of where the weights come from."""
    names = model.method.names(model.method.model(model.weights))
    arrays = torch_names.collect(names, num_batches=model.step or 0)
    about = {"format": "pt", "sicl_jax": json.dumps(model.about())}
    return safetensors.numpy.save(arrays, metadata=about)


def _stablehlo(model: Model) -> bytes:
    """`jax.export`'s serialisation, for CPUs, NVIDIA GPUs and TPUs."""
    (batch,) = export.symbolic_shape("batch")
    columns = _columns(model, batch)
    exported = export.export(jax.jit(_program(model)), platforms=_PLATFORMS)(*columns)
    try:
        return bytes(exported.serialize())
    except ImportError as error:  # JAX leaves the serialisation's format to an optional package.
        raise UserError(
            "--format stablehlo: needs flatbuffers; pip install 'sicl-jax[export]'"
        ) from error


def _onnx(model: Model) -> bytes:
    """An ONNX model; its inputs are named `images` or, of other columns, as these."""
    try:
        import jax2onnx
    except ImportError as error:
        raise UserError("--format onnx: needs jax2onnx; pip install 'sicl-jax[onnx]'") from error
    converted = jax2onnx.to_onnx(
        _program(model),
        inputs=_columns(model, "batch"),
        model_name=f"sicl_jax_{model.method.name}",
        input_names=["images" if name == "image" else name for name in _reads(model)],
        output_names=["features"],
    )
    return converted.SerializeToString()


_WRITERS = {"torch": _torch, "safetensors": _safetensors, "stablehlo": _stablehlo, "onnx": _onnx}
FORMATS = {
    "torch": ".pth",
    "safetensors": ".safetensors",
    "stablehlo": ".stablehlo",
    "onnx": ".onnx",
}


def _reads(model: Model) -> tuple[str, ...]:
    return tuple(next(iter(model.method.streams.values())))


def _columns(model: Model, batch) -> list[jax.ShapeDtypeStruct]:
    """What the tested stream reads, for batches of any size."""
    forms = model.method.forms
    return [
        jax.ShapeDtypeStruct((batch, *forms[name].shape), jnp.uint8)
        if name in forms
        else jax.ShapeDtypeStruct((batch,), jnp.int32)
        for name in _reads(model)
    ]


def _program(model: Model) -> Callable[..., jax.Array]:
    """The function from columns to features, in float32, weights in it."""
    config = ml_collections.ConfigDict(model.config)
    with config.unlocked():
        config.model.dtype = "float32"
    method = methods.create(config, model.method.sizes)
    weights = jax.tree.map(lambda leaf: np.asarray(devices.fetch(leaf)), model.weights)
    embed = features_of(method, next(iter(method.streams)), config.evaluate.flip)
    return lambda *columns: embed(weights, dict(zip(_reads(model), columns, strict=True)))
