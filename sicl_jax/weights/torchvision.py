"""Published weights of ResNets of torchvision's shape, from a file or the Hugging Face cache.

Beside torchvision itself several projects publish such ResNets, with its names behind a prefix and
a head of their own, which is left out here. The network that comes with this package
(docs/drawn_people.md) has the same names.

    torchvision, timm       conv1.weight, layer1.0.conv1.weight, ...; fc
    torchreid               the same, under `state_dict`; fc, classifier
    MoCo, LUPerson          module.encoder_q.conv1.weight, ...; encoder_q.fc, encoder_k, queue;
                            or, as LUPerson published its own, the same as torchvision
    fast-reid               backbone.conv1.weight, ... under `model`; heads, pixel_mean, pixel_std
    drawn-people            conv1.weight, ...; feat_bn, the batch norm of an `Encoder`
"""

import os
import pathlib
from collections.abc import Mapping

import numpy as np

from sicl_jax.errors import UserError
from sicl_jax.models.encoder import Encoder
from sicl_jax.models.resnet import ResNet, ResNetConfig
from sicl_jax.weights import drawn_people, hub, torch_names

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
_HEADS = ("fc.", "classifier.", "feat_bn.")


def names(resnet: ResNet) -> torch_names.Names:
    """Torchvision's names of a backbone's variables."""
    stages = [f"layer{stage}" for stage in range(1, len(resnet.layers) + 1)]
    return torch_names.resnet(resnet, stem=("conv1", "bn1"), stages=stages)


def encoder_names(encoder: Encoder) -> torch_names.Names:
    """Torchvision's names of an encoder's backbone, and the authors' of the norm behind it."""
    return names(encoder.backbone) | torch_names.batch_norm("feat_bn", encoder.feature_bn)


def assign(
    resnet: ResNet, arrays: Mapping[str, np.ndarray], source: str | os.PathLike[str]
) -> None:
    """Fills a backbone from arrays already read; `source` is named in errors.

    Blocks that the network of this package lacks begin by handing on what they get.
    """
    wanted, found = names(resnet), backbone(arrays)
    if source == drawn_people.RESNET.file:
        for name, variable in wanted.items():
            array = torch_names.to_torch(np.asarray(variable.get_value()))
            silent = name.endswith(".bn2.weight")
            found.setdefault(name, np.zeros_like(array) if silent else array)
    torch_names.assign(wanted, found, source)


def assign_encoder(
    encoder: Encoder, arrays: Mapping[str, np.ndarray], source: str | os.PathLike[str]
) -> None:
    """Fills an encoder's backbone as `assign` does, and the norm behind it if it is there."""
    assign(encoder.backbone, arrays, source)
    norm = torch_names.batch_norm("feat_bn", encoder.feature_bn)
    if norm.keys() <= arrays.keys():
        torch_names.assign(norm, {name: arrays[name] for name in norm}, source)


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
        source: A file; `drawn-people`, which comes with this package; or torchvision's ImageNet
            weights in the Hugging Face cache: `imagenet`, the first that were published, or
            `imagenet_v2`, the second.
        config: The architecture.

    Raises:
        UserError: There is no such file; there are no such weights of this architecture; or their
            file is not in the cache, and then the message is the command that puts it there.
    """
    if source == drawn_people.NAME:
        stages = (1,) * len(config.stage_sizes)  # Blocks that it lacks are no hindrance.
        fields = {"block": config.block, "stage_sizes": stages, "width": config.width}
        return drawn_people.RESNET.find({f"model.{name}": of for name, of in fields.items()})
    if source not in _VERSIONS:
        if not pathlib.Path(source).exists():
            raise UserError(
                f"config.model.pretrained={source}: no such file; name a file of weights, the "
                f"folder of a run, {drawn_people.NAME} or {' or '.join(_VERSIONS)}, or leave it "
                "empty to begin with random weights"
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
