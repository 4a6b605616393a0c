"""SiCL on Celeb-reID."""

import ml_collections

from sicl_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
    """The published settings for this data set (arXiv 2305.13600, section 4.2)."""
    config = base.get_config()
    config.data.name = "celeb_reid"
    config.model.pretrained = "imagenet"
    config.steps_per_epoch = 400
    config.neighbors.num = 10
    return config
