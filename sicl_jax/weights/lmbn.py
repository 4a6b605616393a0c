"""Names of an LMBN's variables in DeskPro's published checkpoints (docs/methods/deskpro.md)."""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from sicl_jax.errors import UserError
from sicl_jax.models.lmbn import LMBN, Branch, Head
from sicl_jax.models.osnet import Stage
from sicl_jax.weights import osnet, torch_names
from sicl_jax.weights.torch_names import Names

TEACHER, OF_IMAGES = "face_net", "lmbn"
BRANCHES = ("global", "part", "channel")
_MAP_HEADS = (
    *(f"global_branch.reduction_{number}" for number in (1, 2)),
    *(f"part_branch.reduction_{number}" for number in (1, 2, 3)),
)


def names(prefix: str, module: LMBN) -> Names:
    """Names of a network's variables, each after `prefix.`; every branch once.

    The published files hold each branch a second time, as `branches.0` to `branches.2`
    (`published`).
    """
    trunk = module.trunk
    result = osnet.conv_norm("backbone.0", trunk.conv1)
    result |= _stage("backbone.2", trunk.conv2)
    result |= osnet.block("backbone.3", trunk.conv3)
    for number, name in enumerate(BRANCHES):
        branch = _branch(f"{name}_branch.backbone2", module.branches.module)
        result |= torch_names.part(number, branch)
    result |= osnet.block("global_branch.batch_drop_block.drop_batch_bottleneck", module.bottleneck)
    for number, name in enumerate(_MAP_HEADS):
        result |= torch_names.part(number, head(name, module.map_heads.module))
    result |= {"channel_branch.shared.0.weight": module.shared.conv.kernel}
    result |= torch_names.batch_norm("channel_branch.shared.1", module.shared.bn)
    for number in range(len(module.channel_heads.parts)):
        of_channels = head(f"channel_branch.reduction_ch_{number}", module.channel_heads.module)
        result |= torch_names.part(number, of_channels)
    return {f"{prefix}.{name}": variable for name, variable in result.items()}


def _stage(prefix: str, module: Stage, first: int = 0) -> Names:
    result: Names = {}
    for index, block in enumerate(module.blocks, start=first):
        result |= osnet.block(f"{prefix}.{index}", block)
    if module.transition is not None:
        last = first + len(module.blocks)
        result |= osnet.conv_norm(f"{prefix}.{last}.0", module.transition)
    return result


def _branch(prefix: str, module: Branch) -> Names:
    return {
        **_stage(f"{prefix}.0", module.conv3, first=1),
        **_stage(f"{prefix}.1", module.conv4),
        **osnet.conv_norm(f"{prefix}.2", module.conv5),
    }


def head(prefix: str, module: Head) -> Names:
    """Names of a head."""
    result = {}
    if module.reduction is not None:
        result[f"{prefix}.reduction.weight"] = module.reduction.kernel
    result |= torch_names.batch_norm(f"{prefix}.bn", module.bn)
    return result | {f"{prefix}.classifier.weight": module.classifier.kernel}


def published(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A checkpoint's arrays less `model.` before each name and less each branch's second copy."""
    return {
        name.removeprefix("model."): array
        for name, array in arrays.items()
        if ".branches." not in name
    }


def with_repeats(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays with each branch's second copy, `branches.0` to `branches.2`, at the end."""
    repeats = {
        name.replace(f".{branch}_branch.", f".branches.{index}."): array
        for index, branch in enumerate(BRANCHES)
        for name, array in arrays.items()
        if f".{branch}_branch." in name
    }
    return {**arrays, **repeats}


def shape_of(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, Any] | None:
    """Config fields and sizes of the network whose names begin with `prefix.`; None if none do.

    The block's streams are the released ones, as in every published file.

    Args:
        arrays: From `published`.
        prefix: As for `names`.
    """

    def size(name: str) -> int:
        return int(arrays[f"{prefix}.{name}.weight"].shape[0])

    def blocks(name: str) -> int:
        pattern = re.compile(rf"{re.escape(prefix)}\.{re.escape(name)}\.\d+\.conv1\.conv\.weight")
        return sum(pattern.fullmatch(name) is not None for name in arrays)

    try:
        branch, head = "global_branch.backbone2", "global_branch.reduction_1"
        channels = ("backbone.0.conv", "backbone.2.0.conv3.conv", "backbone.3.conv3.conv")
        return {
            "model.channels": (*map(size, channels), size(f"{branch}.2.conv")),
            "model.blocks": (
                *(blocks("backbone.2"), 1 + blocks(f"{branch}.0"), blocks(f"{branch}.1")),
            ),
            "model.features": size(f"{head}.reduction"),
            "model.streams": "released",
            "sizes": {"classes": size(f"{head}.classifier")},
        }
    except KeyError:
        return None


def assign_teacher(
    teacher: LMBN, arrays: Mapping[str, np.ndarray], source: str | os.PathLike[str]
) -> None:
    """Fills DeskPro's teacher, or an LMBN alone, from a checkpoint that holds a teacher.

    Args:
        teacher: What to fill.
        arrays: From `published`; other networks' names are passed over.
        source: The file they come from, for errors.

    Raises:
        UserError: The file has no teacher, one of another number of classes, or does not fit.
    """
    own = {name: array for name, array in arrays.items() if name.startswith(f"{TEACHER}.")}
    if not own:
        raise UserError(
            f"{source}: holds no face teacher (names that begin with {TEACHER}.); "
            "train one with configs/deskpro_teacher_*.py and name its workdir"
        )
    classifier = f"{TEACHER}.global_branch.reduction_1.classifier.weight"
    expected = teacher.map_heads.module.classifier.kernel.shape[-1]
    if classifier in own and (classes := len(own[classifier])) != expected:
        raise UserError(
            f"{source}: the teacher knows {classes} identities, the training data have "
            f"{expected}; train a teacher on the same data"
        )
    torch_names.assign(names(TEACHER, teacher), own, source)


def is_osnet(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether these are names of the public OSNet's file."""
    return "conv2.0.conv2a.conv1.weight" in arrays


def assign_osnet(
    module: LMBN, arrays: Mapping[str, np.ndarray], source: str | os.PathLike[str]
) -> None:
    """Fills trunk and branches from the public OSNet's ImageNet file; `source` is for errors."""
    skipped = [name for name in arrays if name.startswith(osnet.HEAD)]
    trunk, branch = module.trunk, module.branches.module
    of_trunk = osnet.conv_norm("conv1", trunk.conv1)
    of_trunk |= _stage("conv2", trunk.conv2)
    of_trunk |= osnet.block("conv3.0", trunk.conv3)
    of_branch = _stage("conv3", branch.conv3, first=1)
    of_branch |= _stage("conv4", branch.conv4)
    of_branch |= osnet.conv_norm("conv5", branch.conv5)
    for number in range(len(BRANCHES)):
        names = of_trunk | torch_names.part(number, of_branch)
        torch_names.assign(names, arrays, source, ignored=skipped)
