"""Checkpoints of the authors' training script: reading them, and writing what it can read.

Their encoder is `base` (torchvision's children by number: 0 the first
convolution, 1 its batch norm, 4 and up the stages), `feat_bn`, `full_connect`
and `full_bn`; the fusion head is the last two alone. Checkpoints hold these
under `state_dict`, each name after `module.`.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from sicl_jax.models import torch_names
from sicl_jax.models.torch_files import load_state_dict
from sicl_jax.models.two_stream import Encoder, Projection

_PREFIX = "module."
_FIRST_STAGE = 4


def names(encoder: Encoder) -> torch_names.Names:
    """The authors' names of an encoder's variables, less `module.`."""
    count = len(encoder.backbone.layers)
    stages = [f"base.{stage}" for stage in range(_FIRST_STAGE, _FIRST_STAGE + count)]
    return {
        **torch_names.resnet(encoder.backbone, stem=("base.0", "base.1"), stages=stages),
        **torch_names.batch_norm("feat_bn", encoder.feature_bn),
        **head_names(encoder.projection),
    }


def head_names(projection: Projection) -> torch_names.Names:
    """The authors' names of a projection's, or the fusion head's, variables."""
    return {
        "full_connect.weight": projection.kernel,
        "full_connect.bias": projection.bias,
        **torch_names.batch_norm("full_bn", projection.bn),
    }


def is_released(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether these are names of such a checkpoint, rather than torchvision's."""
    return any(name.removeprefix(_PREFIX).startswith("base.") for name in arrays)


def load(encoder: Encoder, path: str | os.PathLike[str]) -> None:
    """Fills an encoder from a checkpoint.

    Raises:
        UserError: The file cannot be read or does not fit the encoder.
    """
    assign(encoder, load_state_dict(path, strip_prefix=_PREFIX), path)


def assign(
    encoder: Encoder, arrays: Mapping[str, np.ndarray], source: str | os.PathLike[str]
) -> None:
    """Fills an encoder from arrays already read, less `module.`; `source` is named in errors."""
    torch_names.assign(names(encoder), arrays, source)


def checkpoint(encoder: Encoder, *, epoch: int = 0, steps: int = 0) -> dict[str, Any]:
    """What the authors' training script would save of an encoder; `save_state_dict` writes it.

    Args:
        encoder: What to save.
        epoch: Epochs trained.
        steps: Optimiser steps trained.
    """
    arrays = torch_names.collect(names(encoder), num_batches=steps)
    return {"state_dict": {f"{_PREFIX}{n}": a for n, a in arrays.items()}, "epoch": epoch}
