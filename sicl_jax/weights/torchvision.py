"""Published weights of ResNets of torchvision's shape, from a file or the Hugging Face cache.

Beside torchvision itself several projects publish such ResNets, with its names behind a prefix and
a head of their own, which is left out here:

    torchvision, timm       conv1.weight, layer1.0.conv1.weight, ...; fc
    torchreid               the same, under `state_dict`; fc, classifier
    MoCo, LUPerson          module.encoder_q.conv1.weight, ...; encoder_q.fc, encoder_k, queue;
                            or, as LUPerson published its own, the same as torchvision
    fast-reid               backbone.conv1.weight, ... under `model`; heads, pixel_mean, pixel_std
"""

import os
import pathlib
from collections.abc import Mapping

import numpy as np

from sicl_jax.errors import UserError
from sicl_jax.models.resnet import ResNet, ResNetConfig
from sicl_jax.weights import hub, torch_names
from sicl_jax.weights.torch_files import load_state_dict

# Depths by architecture, and torchvision's ImageNet weights as timm hosts them: the first that
# were published, from which the methods' authors start, and the second, of the deeper ones alone.
_DEPTHS = {
    ("basic", (2, 2, 2, 2)): 18,
    ("basic", (3, 4, 6, 3)): 34,
    ("bottleneck", (3, 4, 6, 3)): 50,
    ("bottleneck", (3, 4, 23, 3)): 101,
    ("bottleneck", (3, 8, 36, 3)): 152,
}
_VERSIONS = {
    "imagenet": ("tv_in1k", (18, 34, 50, 101, 152)),
    "imagenet_v2": ("tv2_in1k", (50, 101, 152)),
}
_FILE = "model.safetensors"
_PREFIXES = ("", "encoder_q.", "backbone.")
_HEADS = ("fc.", "classifier.")


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
    torch_names.assign(names(resnet), backbone(arrays), source)


def backbone(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a file's ResNet under torchvision's names, its head left out.

    Args:
        arrays: By the file's names, less `module.`.
    """
    prefix = next((prefix for prefix in _PREFIXES if f"{prefix}conv1.weight" in arrays), "")
    found = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
    return {name: array for name, array in found.items() if not name.startswith(_HEADS)}


def find(source: str, config: ResNetConfig) -> str | pathlib.Path:
    """The file that `config.model.pretrained` means.

    Args:
        source: A file, or torchvision's ImageNet weights in the Hugging Face cache: `imagenet`, the
            first that were published, or `imagenet_v2`, the second.
        config: The architecture.

    Raises:
        UserError: There is no such file; torchvision has no such architecture; or its file is not
            in the cache, and then the message is the command that puts it there.
    """
    if source not in _VERSIONS:
        if not pathlib.Path(source).exists():
            raise UserError(
                f"config.model.pretrained={source}: no such file; name a file of weights, the "
                f"folder of a run, or {' or '.join(_VERSIONS)}, or leave it empty to begin with "
                "random weights"
            )
        return source
    version, depths = _VERSIONS[source]
    depth = _DEPTHS.get((config.block, tuple(config.stage_sizes)))
    if depth not in depths or config.width != 64:
        listed = ", ".join(map(str, depths))
        raise UserError(
            f"config.model.pretrained={source}: there are such weights for ResNet-{listed}, not "
            f"for block={config.block}, stage_sizes={tuple(config.stage_sizes)}, "
            f"width={config.width}; name a file instead"
        )
    return hub.cached_file(
        f"timm/resnet{depth}.{version}", _FILE, f"config.model.pretrained={source}"
    )
