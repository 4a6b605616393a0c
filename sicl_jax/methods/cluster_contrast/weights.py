"""Checkpoints of the authors' training script, whose names are `weights.torch_names.encoder`'s."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sicl_jax.models.encoder import Encoder
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.weights import torch_names, torchvision
from sicl_jax.weights.torch_files import load_state_dict

_PREFIX = "module."


def recognize(arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Config fields of the encoder in a checkpoint; None where it is another method's.

    SiCL's checkpoints have a projection (`full_connect`) beside the same names.

    Args:
        arrays: By the checkpoint's names, less `module.`.
    """
    if "base.0.weight" not in arrays or "full_connect.weight" in arrays:
        return None
    pooling = "gem" if "gap.p" in arrays else "average"
    shape = torch_names.resnet_shape(arrays)
    return shape and {"model.pooling": pooling, **shape}


def load_pretrained(encoder: Encoder, source: str, config: ResNetConfig) -> None:
    """Fills an encoder from ImageNet weights, its backbone alone, or from a checkpoint.

    Args:
        encoder: What to fill; its other weights stay as they are.
        source: A file, recognised by the names in it, or a name of `torchvision.find`.
        config: The shape of the encoder.

    Raises:
        UserError: The file is missing, cannot be read or does not fit the encoder.
    """
    path = torchvision.find(source, config)
    arrays = load_state_dict(path, strip_prefix=_PREFIX)
    if recognize(arrays):
        torch_names.assign(torch_names.encoder(encoder), arrays, path)
    else:
        torchvision.assign_encoder(encoder, arrays, path)


def checkpoint(encoder: Encoder, *, epoch: int, steps: int) -> dict[str, Any]:
    """What the authors' training script would save of an encoder, but for the best mAP.

    Args:
        encoder: What to save.
        epoch: Epochs trained.
        steps: Optimiser steps trained.
    """
    arrays = torch_names.collect(torch_names.encoder(encoder), num_batches=steps)
    return {"state_dict": {f"{_PREFIX}{n}": a for n, a in arrays.items()}, "epoch": epoch}
