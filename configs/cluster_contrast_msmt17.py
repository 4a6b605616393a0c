"""Cluster Contrast on MSMT17."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """The published settings (`docs/methods/cluster_contrast.md`, section 6)."""
    config = configs.base("cluster_contrast")
    config.data.name = "msmt17"
    config.model.pretrained = "imagenet"
    config.steps_per_epoch = 400
    return config
