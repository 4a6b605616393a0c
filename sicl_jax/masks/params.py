"""Loads the published SCHP checkpoints into `schp.Parser`."""

import dataclasses
import functools
import os
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from flax import nnx

from sicl_jax import devices
from sicl_jax.errors import UsageError, UserError
from sicl_jax.masks.schp import AbsoluteNorm, NormedLinear, Parser
from sicl_jax.weights.torch_files import load_state_dict

_NORM_NAMES = {
    "weight": "weight",
    "bias": "bias",
    "running_mean": "mean",
    "running_var": "variance",
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A published checkpoint.

    Attributes:
        dataset: What it was trained on: 'lip', 'atr' or 'pascal'.
        num_classes: Its classes, with the background, which is class 0.
        input_size: Height and width of the network's input.
    """

    dataset: str
    num_classes: int
    input_size: int


KINDS = (Kind("lip", 20, 473), Kind("atr", 18, 512), Kind("pascal", 7, 512))


def load_parser(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    dtype: jnp.dtype = jnp.float32,
) -> tuple[Parser, Kind]:
    """Loads a checkpoint and recognises its kind from its number of classes.

    Args:
        path: A `.pth` or safetensors file with the published names, with or without `module.`.
        dataset: 'lip', 'atr' or 'pascal' to insist on that kind, or None.
        dtype: Type of the convolutions' weights and results.

    Returns:
        The parser, its arrays on all devices, and its kind.

    Raises:
        UserError: The file cannot be read or is no such checkpoint.
        UsageError: It is of another kind than `dataset`.
    """
    arrays = load_state_dict(path, strip_prefix="module.")
    kind = _recognize(path, arrays, dataset)
    parser = nnx.merge(*_described(kind.num_classes, dtype), copy=True)
    variables = dict(torch_variables(parser))
    _check(path, arrays, variables)
    for name, variable in variables.items():
        array = _from_torch(arrays.pop(name))  # Popped, so that the host's copy goes at once.
        array = np.ascontiguousarray(array, variable.dtype)
        variable.set_value(devices.put(array, devices.replicated()))
    return parser, kind


@functools.cache
def _described(num_classes: int, dtype: jnp.dtype) -> tuple[nnx.GraphDef, nnx.State]:
    """The parser with shapes and types in place of arrays; a second's work."""
    return nnx.split(nnx.eval_shape(lambda: Parser(num_classes, dtype=dtype, rngs=nnx.Rngs(0))))


def torch_variables(parser: Parser) -> Iterator[tuple[str, nnx.Variable]]:
    """Returns the checkpoint's name of each of the parser's variables, less `module.`."""
    for prefix, module in _torch_modules(parser):
        if isinstance(module, AbsoluteNorm):
            for torch_name, name in _NORM_NAMES.items():
                yield f"{prefix}.{torch_name}", getattr(module, name)
        else:
            yield f"{prefix}.weight", module.kernel
            if module.bias is not None:
                yield f"{prefix}.bias", module.bias


def _torch_modules(parser: Parser) -> Iterator[tuple[str, nnx.Module]]:
    backbone = parser.backbone
    for i, (conv, norm) in enumerate(zip(backbone.stem, backbone.stem_norms, strict=True), 1):
        yield f"conv{i}", conv
        yield f"bn{i}", norm
    for s, blocks in enumerate(backbone.stages, 1):
        for b, block in enumerate(blocks):
            for i in (1, 2, 3):
                yield f"layer{s}.{b}.conv{i}", getattr(block, f"conv{i}")
                yield f"layer{s}.{b}.bn{i}", getattr(block, f"norm{i}")
            if block.shortcut is not None:
                yield f"layer{s}.{b}.downsample.0", block.shortcut
                yield f"layer{s}.{b}.downsample.1", block.shortcut_norm
    for i, level in enumerate(parser.context.levels):
        yield from _brick(f"context_encoding.stages.{i}", level, 1)
    yield "context_encoding.bottleneck.0", parser.context.bottleneck
    yield "context_encoding.bottleneck.1", parser.context.norm
    for i, level in enumerate(parser.edge.levels, 1):
        yield from _brick(f"edge.conv{i}", level, 0)
    yield "edge.conv4", parser.edge.edge
    yield "edge.conv5", parser.edge.join
    decoder = parser.decoder
    yield from _brick("decoder.conv1", decoder.context, 0)
    yield from _brick("decoder.conv2", decoder.detail, 0)
    yield from _brick("decoder.conv3", decoder.mix1, 0)
    yield from _brick("decoder.conv3", decoder.mix2, 2)
    yield "decoder.conv4", decoder.classify
    yield from _brick("fushion", parser.fusion, 0)  # Their spelling.
    yield "fushion.3", parser.classify


def _brick(prefix: str, brick: NormedLinear, index: int) -> Iterator[tuple[str, nnx.Module]]:
    yield f"{prefix}.{index}", brick.linear
    yield f"{prefix}.{index + 1}", brick.norm


def _from_torch(array: np.ndarray) -> np.ndarray:
    """Moves a convolution's (out, in, h, w) to (h, w, in, out), or (in, out) if it is 1 x 1."""
    if array.ndim != 4:
        return array
    array = array.transpose(2, 3, 1, 0)
    return array[0, 0] if array.shape[:2] == (1, 1) else array


def _check(path, arrays: dict[str, np.ndarray], variables: dict[str, nnx.Variable]) -> None:
    """Makes sure that names and shapes are the parser's, all of them and no others."""
    for name, variable in variables.items():
        if name not in arrays:
            raise UserError(f"{path}: lacks {name}; is it an SCHP checkpoint?")
        shape = _from_torch(arrays[name]).shape
        if shape != variable.shape:
            raise UserError(
                f"{path}: {name} has shape {shape}, the parser's is {variable.shape} "
                "(both in JAX's order of axes); is it an SCHP checkpoint?"
            )
    for name in arrays:
        if name not in variables and not name.endswith("num_batches_tracked"):
            raise UserError(f"{path}: holds {name}, which is not SCHP's; is it another network?")


def _recognize(path, arrays: dict[str, np.ndarray], dataset: str | None) -> Kind:
    classes = arrays.get("fushion.3.weight")
    if classes is None or classes.ndim != 4:
        raise UserError(f"{path}: lacks fushion.3.weight; is it an SCHP checkpoint?")
    kind = next((kind for kind in KINDS if kind.num_classes == len(classes)), None)
    if kind is None:
        known = ", ".join(f"{kind.num_classes} ({kind.dataset})" for kind in KINDS)
        raise UserError(f"{path}: has {len(classes)} classes; the published parsers have {known}")
    if dataset is not None and dataset != kind.dataset:
        raise UsageError(
            f"--dataset {dataset}: {path} has {kind.num_classes} classes, "
            f"so it was trained on {kind.dataset}; leave the flag out"
        )
    return kind
