"""SiCL on Celeb-reID-light."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """The published settings for this data set (`docs/algorithm.md`, sections 4 and 5)."""
    config = configs.base("sicl")
    config.data.name = "celeb_reid_light"
    config.model.pretrained = "imagenet"
    config.steps_per_epoch = 200
    config.neighbors.num = 10
    return config
