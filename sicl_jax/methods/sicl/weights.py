"""Checkpoints of the authors' training script: reading them, and writing what it can read.

To the names of an encoder (`torch_names.encoder`) they add `full_connect` and
`full_bn`; the fusion head is these two alone. Checkpoints hold them under
`state_dict`, each name after `module.`.
"""

from collections.abc import Mapping

import numpy as np

from sicl_jax.methods.sicl.model import Encoder, Projection, TwoStreamModel
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.weights import torch_names, torchvision
from sicl_jax.weights.torch_files import load_state_dict

_PREFIX = "module."


def names(encoder: Encoder) -> torch_names.Names:
    """The authors' names of an encoder's variables, less `module.`."""
    return torch_names.encoder(encoder) | head_names(encoder.projection)


def head_names(projection: Projection) -> torch_names.Names:
    """The authors' names of a projection's, or the fusion head's, variables."""
    return {
        "full_connect.weight": projection.linear.kernel,
        "full_connect.bias": projection.linear.bias,
        **torch_names.batch_norm("full_bn", projection.bn),
    }


def is_released(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether these are names of such a checkpoint, rather than torchvision's."""
    return any(name.removeprefix(_PREFIX).startswith("base.") for name in arrays)


def load_pretrained(model: TwoStreamModel, source: str, config: ResNetConfig) -> None:
    """Fills a model from published weights.

    ImageNet weights go into the backbones of both streams. A checkpoint of the authors is an RGB
    encoder and goes into the RGB stream alone.

    Args:
        model: What to fill; its other weights stay as they are.
        source: A file, recognised by the names in it, or a name of `torchvision.find`.
        config: The shape of the encoders.

    Raises:
        UserError: The file is missing, cannot be read or does not fit the model.
    """
    path = torchvision.find(source, config)
    arrays = load_state_dict(path, strip_prefix="module.")
    if is_released(arrays):
        torch_names.assign(names(model.rgb), arrays, path)
        return
    for encoder in (model.rgb, model.silhouette):
        if encoder is not None:
            torchvision.assign_encoder(encoder, arrays, path)
