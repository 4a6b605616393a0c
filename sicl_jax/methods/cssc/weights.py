"""Checkpoints of the authors' training script (`docs/methods/cssc.md` section 7)."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from sicl_jax.errors import UserError
from sicl_jax.methods.cssc.model import ContentSalientNet, Mining
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.weights import torch_names, torchvision
from sicl_jax.weights.torch_files import load_state_dict

_TRUNK = "backbone_before_layer4"
_SHARED = "backbone_layer43"
_FIRST_STAGE = 4
# Arrays that tell the model's sizes, and how many axes they have.
_TOLD_BY = {
    f"{_TRUNK}.0.weight": 4,
    f"{_SHARED}.conv1.weight": 4,
    "smr_c_branch1.l_conv_list.0.0.weight": 2,
    "smr_c_branch1.refinement.0.weight": 2,
    "classifier.weight": 2,
}


def names(model: ContentSalientNet) -> torch_names.Names:
    """The authors' names of the model's variables.

    Their trunk numbers torchvision's children: 0 the first convolution, 1 its batch norm, 4 and up
    the stages.
    """
    stages = [f"{_TRUNK}.{_FIRST_STAGE + i}" for i in range(len(model.backbone.layers) - 1)]
    block = torch_names.block
    first, second, shared = model.backbone.layers[-1]
    return {
        **torch_names.resnet(model.backbone, stem=(f"{_TRUNK}.0", f"{_TRUNK}.1"), stages=stages),
        **block("backbone_layer41_branch1", first),
        **block("backbone_layer42_branch1", second),
        **block("backbone_layer41_branch2", model.branch2[0]),
        **block("backbone_layer42_branch2", model.branch2[1]),
        **block(_SHARED, shared),
        **mining_names("smr_c_branch1", model.content1),
        **mining_names("smr_s_branch1", model.salient1),
        **mining_names("smr_s_branch2", model.salient2),
        **mining_names("smr_c_branch2", model.content2),
        **torch_names.batch_norm("bottleneck", model.bn),
        "classifier.weight": model.classifier.kernel,
    }


def mining_names(prefix: str, module: Mining) -> torch_names.Names:
    """The authors' names of a mining block's variables."""
    names = torch_names.batch_norm(f"{prefix}.bottleneck", module.bn)
    for index, (linear, bn) in enumerate(zip(module.parts, module.part_bns, strict=True)):
        names[f"{prefix}.l_conv_list.{index}.0.weight"] = linear.kernel
        names |= torch_names.batch_norm(f"{prefix}.l_conv_list.{index}.1", bn)
    return {
        **names,
        f"{prefix}.classifier.weight": module.classifier.kernel,
        f"{prefix}.refinement.0.weight": module.squeeze.kernel,
        f"{prefix}.refinement.0.bias": module.squeeze.bias,
        f"{prefix}.refinement.2.weight": module.excite.kernel,
        f"{prefix}.refinement.2.bias": module.excite.bias,
    }


def recognize(arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Config fields and sizes of the model in a checkpoint; None if it is none of the authors'."""
    if not _is_published(arrays):
        return None
    blocks = [re.fullmatch(rf"{_TRUNK}\.(\d+)\.\d+\.conv1\.weight", name) for name in arrays]
    stages = [int(match[1]) for match in blocks if match]
    sizes = tuple(stages.count(stage) for stage in sorted(set(stages)))
    parts = [re.fullmatch(r"smr_c_branch1\.l_conv_list\.\d+\.0\.weight", name) for name in arrays]
    hidden, features = arrays["smr_c_branch1.refinement.0.weight"].shape
    return {
        "model.block": "bottleneck" if f"{_SHARED}.conv3.weight" in arrays else "basic",
        "model.stage_sizes": (*sizes, 3),
        "model.width": int(arrays[f"{_TRUNK}.0.weight"].shape[0]),
        "mining.parts": sum(map(bool, parts)),
        "mining.part_features": int(arrays["smr_c_branch1.l_conv_list.0.0.weight"].shape[0]),
        "mining.reduction": features // max(hidden, 1),
        "sizes": {"classes": int(arrays["classifier.weight"].shape[0])},
    }


def load_pretrained(model: ContentSalientNet, source: str, config: ResNetConfig) -> None:
    """Fills a model from published weights.

    Args:
        model: What to fill. A checkpoint of the authors is all of it, classifiers too; weights of
            torchvision go into the backbone, and the copies in branch 2 follow.
        source: A file, recognised by the names in it, or a name of `torchvision.find`.
        config: Shape of the backbone.

    Raises:
        UserError: The file is missing, cannot be read or does not fit the model.
    """
    path = torchvision.find(source, config)
    arrays = load_state_dict(path, strip_prefix="module.")
    if not _is_published(arrays):
        torchvision.assign(model.backbone, arrays, path)
        model.copy_branch()
        return
    theirs, ours = len(arrays["classifier.weight"]), model.classifier.kernel.shape[1]
    if theirs != ours:
        raise UserError(
            f"{path}: trained on {theirs} identities, not on the {ours} of this data set, so its "
            "classifiers do not fit; begin with --config.model.pretrained=imagenet"
        )
    torch_names.assign(names(model), arrays, path)


def _is_published(arrays: Mapping[str, np.ndarray]) -> bool:
    return all(name in arrays and arrays[name].ndim == axes for name, axes in _TOLD_BY.items())
