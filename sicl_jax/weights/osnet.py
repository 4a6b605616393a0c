"""Published names of OSNet's blocks, and ImageNet weights from the public OSNet's file."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from sicl_jax.errors import UserError
from sicl_jax.models.osnet import LENGTHS, Block, ConvNorm, LightConv, OSNet, OSNetConfig
from sicl_jax.weights import hub, torch_names
from sicl_jax.weights.torch_names import Names

# The public file's embedding layer and classifier, which are not the backbone's.
HEAD = ("fc.0.", "fc.1.", "classifier.")
_REPOSITORY, _FILE = "kaiyangzhou/osnet", "osnet_x1_0_imagenet.pth"


def names(module: OSNet) -> Names:
    """The public OSNet's names of a backbone's variables (`osnet_x1_0_imagenet.pth`)."""
    result = conv_norm("conv1", module.conv1)
    for name in ("conv2", "conv3", "conv4"):
        stage = getattr(module, name)
        for index, part in enumerate(stage.blocks):
            result |= block(f"{name}.{index}", part)
        if stage.transition is not None:
            result |= conv_norm(f"{name}.{len(stage.blocks)}.0", stage.transition)
    return result | conv_norm("conv5", module.conv5)


def conv_norm(prefix: str, module: ConvNorm) -> Names:
    """Names of a convolution and its batch norm."""
    return {
        f"{prefix}.conv.weight": module.conv.kernel,
        **torch_names.batch_norm(f"{prefix}.bn", module.bn),
    }


def block(prefix: str, module: Block) -> Names:
    """Names of an OSNet block."""
    result = conv_norm(f"{prefix}.conv1", module.conv1)
    for stream, length in LENGTHS["intended"].items():
        for depth in range(length):
            part = f"conv2{stream}.{depth}"
            name = f"{prefix}.{part}" if length > 1 else f"{prefix}.conv2{stream}"
            layers = getattr(module, f"conv2_{depth}")
            if part in layers.parts:
                number = layers.parts.index(part)
                result |= torch_names.part(number, _light_conv(name, layers.module))
            else:
                result |= _light_conv(name, module.conv2b[depth])
    for name in ("fc1", "fc2"):
        conv = getattr(module.gate, name)
        result |= {
            f"{prefix}.gate.{name}.weight": conv.kernel,
            f"{prefix}.gate.{name}.bias": conv.bias,
        }
    result |= conv_norm(f"{prefix}.conv3", module.conv3)
    if module.downsample is not None:
        result |= conv_norm(f"{prefix}.downsample", module.downsample)
    return result


def _light_conv(prefix: str, module: LightConv) -> Names:
    return {
        f"{prefix}.conv1.weight": module.conv1.kernel,
        f"{prefix}.conv2.weight": module.conv2.kernel,
        **torch_names.batch_norm(f"{prefix}.bn", module.bn),
    }


def assign(module: OSNet, arrays: Mapping[str, np.ndarray], source: str | os.PathLike[str]) -> None:
    """Fills a backbone from the public file's arrays; `source` is named in errors."""
    head = [name for name in arrays if name.startswith(HEAD)]
    torch_names.assign(names(module), arrays, source, ignored=head)


def shape_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Config fields and sizes of the network of the public names; None if it is not one of these.

    The blocks' streams are the intended ones, as in the public file.
    """

    def size(name: str) -> int:
        return int(arrays[f"{name}.weight"].shape[0])

    def blocks(stage: str) -> int:
        found = [n for n in arrays if n.startswith(f"{stage}.") and n.endswith(".conv2b.0.bn.bias")]
        return len(found)

    stages = ("conv2", "conv3", "conv4")
    try:
        return {
            "model.channels": (size("conv1.conv"), *(size(f"{s}.0.conv3.conv") for s in stages)),
            "model.blocks": tuple(map(blocks, stages)),
            "model.features": size("fc.0"),
            "model.streams": "intended",
            "sizes": {"classes": size("classifier")},
        }
    except KeyError:
        return None


def find(source: str, config: OSNetConfig) -> pathlib.Path:
    """The file that `config.model.pretrained` names; `imagenet` is the public OSNet's.

    Raises:
        UserError: There are no ImageNet weights of this shape, or they are not in the Hugging Face
            cache; the message is the command that puts them there.
    """
    if source != "imagenet":
        return pathlib.Path(source)
    wanted_by = "config.model.pretrained=imagenet"
    whole = OSNetConfig()
    if (config.blocks, config.channels) != (whole.blocks, whole.channels):
        raise UserError(
            f"{wanted_by}: there are ImageNet weights for OSNet x1.0, not for blocks="
            f"{config.blocks}, channels={config.channels}; name a file instead"
        )
    return hub.cached_file(_REPOSITORY, _FILE, wanted_by)
