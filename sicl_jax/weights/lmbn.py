"""Names of an LMBN's variables in DeskPro's published checkpoints (docs/methods/deskpro.md)."""

from collections.abc import Mapping

import numpy as np

from sicl_jax.models.lmbn import LMBN, Branch, Head
from sicl_jax.models.osnet import Stage
from sicl_jax.weights import osnet, torch_names
from sicl_jax.weights.torch_names import Names

BRANCHES = ("global", "part", "channel")


def names(prefix: str, module: LMBN) -> Names:
    """Names of a network's variables, each after `prefix.`; every branch once.

    The published files hold each branch a second time, as `branches.0` to `branches.2`
    (`without_repeats`).
    """
    trunk = module.trunk
    result = osnet.conv_norm("backbone.0", trunk.conv1)
    result |= _stage("backbone.2", trunk.conv2)
    result |= osnet.block("backbone.3", trunk.conv3)
    for name, branch in zip(BRANCHES, module.branches, strict=True):
        result |= _branch(f"{name}_branch.backbone2", branch)
    result |= osnet.block("global_branch.batch_drop_block.drop_batch_bottleneck", module.bottleneck)
    for index, head in enumerate(module.global_heads, start=1):
        result |= _head(f"global_branch.reduction_{index}", head)
    for index, head in enumerate(module.part_heads, start=1):
        result |= _head(f"part_branch.reduction_{index}", head)
    result |= {"channel_branch.shared.0.weight": module.shared.conv.kernel}
    result |= torch_names.batch_norm("channel_branch.shared.1", module.shared.bn)
    for index, head in enumerate(module.channel_heads):
        result |= _head(f"channel_branch.reduction_ch_{index}", head)
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


def _head(prefix: str, module: Head) -> Names:
    result = {}
    if module.reduction is not None:
        result[f"{prefix}.reduction.weight"] = module.reduction.kernel
    result |= torch_names.batch_norm(f"{prefix}.bn", module.bn)
    return result | {f"{prefix}.classifier.weight": module.classifier.kernel}


def without_repeats(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A published checkpoint's arrays less the second copy of each branch."""
    return {name: array for name, array in arrays.items() if ".branches." not in name}


def with_repeats(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays with each branch's second copy, `branches.0` to `branches.2`, at the end."""
    repeats = {
        name.replace(f".{branch}_branch.", f".branches.{index}."): array
        for index, branch in enumerate(BRANCHES)
        for name, array in arrays.items()
        if f".{branch}_branch." in name
    }
    return {**arrays, **repeats}


def assign_osnet(module: LMBN, arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Fills trunk and branches from the public OSNet's ImageNet file; `source` is for errors."""
    head = [name for name in arrays if name.startswith(osnet.HEAD)]
    for branch in module.branches:
        trunk = module.trunk
        result = osnet.conv_norm("conv1", trunk.conv1)
        result |= _stage("conv2", trunk.conv2)
        result |= osnet.block("conv3.0", trunk.conv3)
        result |= _stage("conv3", branch.conv3, first=1)
        result |= _stage("conv4", branch.conv4)
        result |= osnet.conv_norm("conv5", branch.conv5)
        torch_names.assign(result, arrays, source, ignored=head)
