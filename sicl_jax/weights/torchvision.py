"""ImageNet weights of torchvision's ResNets, from a file or the Hugging Face cache."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np

from sicl_jax.errors import UserError
from sicl_jax.models.resnet import ResNet, ResNetConfig
from sicl_jax.weights import hub, torch_names
from sicl_jax.weights.torch_files import load_state_dict

# torchvision's first ImageNet weights, which SiCL's authors start from, as timm hosts them.
_REPOSITORIES = {
    ("basic", (2, 2, 2, 2)): "timm/resnet18.tv_in1k",
    ("basic", (3, 4, 6, 3)): "timm/resnet34.tv_in1k",
    ("bottleneck", (3, 4, 6, 3)): "timm/resnet50.tv_in1k",
    ("bottleneck", (3, 4, 23, 3)): "timm/resnet101.tv_in1k",
    ("bottleneck", (3, 8, 36, 3)): "timm/resnet152.tv_in1k",
}
_FILE = "model.safetensors"
_CLASSIFIER = ("fc.weight", "fc.bias")


def names(resnet: ResNet) -> torch_names.Names:
    """Torchvision's names of a backbone's variables."""
    stages = [f"layer{stage}" for stage in range(1, len(resnet.layers) + 1)]
    return torch_names.resnet(resnet, stem=("conv1", "bn1"), stages=stages)


def load(resnet: ResNet, path: str | os.PathLike[str]) -> None:
    """Fills a backbone from `resnet*.pth` or a safetensors file of the same names.

    Raises:
        UserError: The file cannot be read or does not fit the backbone.
    """
    assign(resnet, load_state_dict(path, strip_prefix="module."), path)


def assign(
    resnet: ResNet, arrays: Mapping[str, np.ndarray], source: str | os.PathLike[str]
) -> None:
    """Fills a backbone from arrays already read; `source` is named in errors."""
    torch_names.assign(names(resnet), arrays, source, ignored=_CLASSIFIER)


def imagenet_file(config: ResNetConfig) -> pathlib.Path:
    """The ImageNet weights of this architecture in the Hugging Face cache.

    Raises:
        UserError: torchvision has no such architecture, or the file is not in the cache; the
            message is the command that puts it there.
    """
    repository = _REPOSITORIES.get((config.block, tuple(config.stage_sizes)))
    if repository is None or config.width != 64:
        raise UserError(
            "config.model.pretrained=imagenet: there are ImageNet weights for ResNet-18, 34, 50, "
            f"101 and 152, not for block={config.block}, stage_sizes={tuple(config.stage_sizes)}, "
            f"width={config.width}; name a file instead"
        )
    return hub.cached_file(repository, _FILE, "config.model.pretrained=imagenet")
