"""Cluster Contrast on PersonX."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """The first version's steps, since the released one has none for PersonX (section 6)."""
    config = configs.base("cluster_contrast")
    config.data.name = "personx"
    config.model.pretrained = "imagenet"
    config.steps_per_epoch = 200
    return config
