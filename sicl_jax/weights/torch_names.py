"""Which of our variables is which of PyTorch's, and the way there and back.

A `Names` is an ordered dict from PyTorch's name to our `nnx.Variable`. The
loaders and exporters, one file per origin, are such dicts and a call or two.
Layouts: convolutions are OIHW there and HWIO here, linear weights (out, in)
there and (in, out) here; a matrix that is no linear weight there (`AsIs`) is
the same in both.
"""

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sicl_jax import devices
from sicl_jax.errors import UserError
from sicl_jax.models.batch_norm import BatchNorm
from sicl_jax.models.encoder import Encoder
from sicl_jax.models.resnet import ResNet


@dataclasses.dataclass(frozen=True)
class AsIs:
    """A variable whose axes are PyTorch's: an embedding, or a matrix that it applies as x W."""

    variable: nnx.Variable


@dataclasses.dataclass(frozen=True)
class Part:
    """What a variable holds for one of the modules that it is kept for (`layers.SideBySide`)."""

    variable: nnx.Variable
    index: tuple[int, ...]


Entry = nnx.Variable | AsIs | Part
Names = dict[str, Entry]

_BLOCK = re.compile(r"(?:base\.|layer)(\d+)\.(\d+)\.conv1\.weight")
_COUNTER = "num_batches_tracked"
_LISTED = 5


def variable_of(entry: Entry) -> nnx.Variable:
    """The variable in which what has a name lies."""
    return entry.variable if isinstance(entry, AsIs | Part) else entry


def part(number: int, names: Names) -> Names:
    """Names of one of several modules side by side, from the names of their common one."""

    def index(entry):
        return entry.index if isinstance(entry, Part) else ()

    return {n: Part(variable_of(e), (number, *index(e))) for n, e in names.items()}


def batch_norm(prefix: str, module: BatchNorm) -> Names:
    """Names of a batch norm's four vectors."""
    return {
        f"{prefix}.weight": module.scale,
        f"{prefix}.bias": module.bias,
        f"{prefix}.running_mean": module.mean,
        f"{prefix}.running_var": module.var,
    }


def resnet(module: ResNet, *, stem: tuple[str, str], stages: Iterable[str]) -> Names:
    """Names of a ResNet whose blocks are named as in torchvision.

    Args:
        module: The backbone.
        stem: Names of the first convolution and its batch norm.
        stages: Names of the stages, from the first; stages behind the last name are left out.
    """
    names = {f"{stem[0]}.weight": module.conv1.kernel, **batch_norm(stem[1], module.bn1)}
    for stage, blocks in zip(stages, module.layers, strict=False):
        for index, part in enumerate(blocks):
            names |= block(f"{stage}.{index}", part)
    return names


def resnet_shape(arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """The shape of a ResNet as its arrays' names and sizes tell it, as config fields; or None."""
    blocks = [match for match in map(_BLOCK.fullmatch, arrays) if match]
    if not blocks:
        return None
    stages = sorted({int(match[1]) for match in blocks})
    sizes = tuple(sum(int(match[1]) == stage for match in blocks) for stage in stages)
    first = min(blocks, key=lambda match: (int(match[1]), int(match[2])))[0]
    bottleneck = first.replace("conv1", "conv3") in arrays
    return {
        "model.block": "bottleneck" if bottleneck else "basic",
        "model.stage_sizes": sizes,
        "model.width": int(arrays[first].shape[0]),
    }


def encoder(module: Encoder) -> Names:
    """Names of an encoder in the published code of SiCL and of Cluster Contrast.

    `base` are torchvision's children by number: 0 the first convolution, 1 its batch norm, 4 and
    up the stages; then `gap` where the pooling is trained, and `feat_bn`.
    """
    stages = [f"base.{4 + number}" for number in range(len(module.backbone.layers))]
    names = resnet(module.backbone, stem=("base.0", "base.1"), stages=stages)
    if module.gem is not None:
        names["gap.p"] = module.gem.p
    return names | batch_norm("feat_bn", module.feature_bn)


def block(prefix: str, module: nnx.Module) -> Names:
    """Names of a ResNet's block, torchvision's behind the prefix."""
    names: Names = {}
    for i in (1, 2, 3):
        if hasattr(module, f"conv{i}"):
            names[f"{prefix}.conv{i}.weight"] = getattr(module, f"conv{i}").kernel
            names |= batch_norm(f"{prefix}.bn{i}", getattr(module, f"bn{i}"))
    if module.downsample is not None:
        names[f"{prefix}.downsample.0.weight"] = module.downsample.conv.kernel
        names |= batch_norm(f"{prefix}.downsample.1", module.downsample.bn)
    return names


def from_torch(array: np.ndarray) -> np.ndarray:
    """Moves the axes of a weight from PyTorch's order to ours."""
    return array.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim, range(array.ndim)))


def to_torch(array: np.ndarray) -> np.ndarray:
    """Moves the axes of a weight from our order to PyTorch's."""
    return array.transpose({4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, range(array.ndim)))


def assign(
    names: Names,
    arrays: Mapping[str, np.ndarray],
    source: str | os.PathLike[str],
    *,
    ignored: Iterable[str] = (),
) -> None:
    """Gives the variables the arrays of these names, all or none of them.

    Args:
        names: What is to be filled.
        arrays: By PyTorch's names, in its layouts; floats of any width.
        source: The file they come from, for errors.
        ignored: Names that may be there and are not needed. Counters of batches always may.

    Raises:
        UserError: Names are missing or unknown, or shapes or number types do not fit; one line.
    """
    faults = [
        *(f"lacks {name}" for name in names if name not in arrays),
        *(
            f"has {name}, which the model does not"
            for name in arrays
            if name not in names and name not in ignored and not name.endswith(f".{_COUNTER}")
        ),
        *_misfits(names, arrays),
    ]
    if faults:
        shown = "; ".join(fault[:120] for fault in faults[:_LISTED])
        more = f"; and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
        raise UserError(
            f"{source}: does not fit the model that the config describes (config.model): "
            f"{shown}{more}"
        )
    filled: dict[int, tuple[nnx.Variable, np.ndarray]] = {}
    for name, entry in names.items():
        variable = variable_of(entry)
        _, whole = filled.setdefault(id(variable), (variable, _host_array(variable)))
        place = entry.index if isinstance(entry, Part) else ...
        whole[place] = arrays[name] if isinstance(entry, AsIs) else from_torch(arrays[name])
    for variable, whole in filled.values():
        variable.set_value(devices.put(whole, devices.replicated()))


def _host_array(variable: nnx.Variable) -> np.ndarray:
    """An array of a variable's shape to write into, with what it holds unless it is abstract."""
    value = variable.get_value()
    if isinstance(value, jax.ShapeDtypeStruct):
        return np.zeros(value.shape, value.dtype)
    return np.array(devices.fetch(value) if isinstance(value, jax.Array) else value)


def _misfits(names: Names, arrays: Mapping[str, np.ndarray]):
    for name, entry in names.items():
        if (array := arrays.get(name)) is None:
            continue
        expected = torch_shape(entry)
        if array.shape != expected:
            yield f"{name} is {_times(array.shape)}, not {_times(expected)}"
        elif not jnp.issubdtype(array.dtype, jnp.floating):
            yield f"{name} holds {array.dtype}, not floats"


def torch_shape(entry: Entry) -> tuple[int, ...]:
    """The shape of what has a name in PyTorch's layout."""
    if isinstance(entry, AsIs):
        return entry.variable.shape
    shape = entry.variable.shape[len(entry.index) :] if isinstance(entry, Part) else entry.shape
    return to_torch(np.broadcast_to(np.float32(0), shape)).shape


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def checkpoint(names: Names, *, prefix: str = "", epoch: int = 0, steps: int = 0) -> dict[str, Any]:
    """What the usual training script saves of a model: `state_dict` and `epoch`.

    Args:
        names: The model's variables.
        prefix: Put before each name.
        epoch: Epochs trained.
        steps: Optimiser steps trained.
    """
    arrays = collect(names, num_batches=steps)
    return {"state_dict": {f"{prefix}{n}": a for n, a in arrays.items()}, "epoch": epoch}


def collect(names: Names, *, num_batches: int = 0) -> dict[str, np.ndarray]:
    """The variables as PyTorch would hold them, in its order.

    Args:
        names: The variables.
        num_batches: What the batch norms' counters say: training steps so far.

    Returns:
        Arrays by name, in PyTorch's layouts, with a counter after each batch norm's variance.
    """
    arrays, fetched = {}, {}
    for name, entry in names.items():
        variable = variable_of(entry)
        if id(variable) not in fetched:
            fetched[id(variable)] = devices.fetch(variable.get_value())
        array = fetched[id(variable)]
        if isinstance(entry, Part):
            array = array[entry.index]
        array = array if isinstance(entry, AsIs) else to_torch(array)
        arrays[name] = np.ascontiguousarray(array)
        if name.endswith(".running_var"):
            arrays[name.replace("running_var", _COUNTER)] = np.array(num_batches, np.int64)
    return arrays
