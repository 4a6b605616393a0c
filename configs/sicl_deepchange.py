"""SiCL on DeepChange."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """PRCC's settings: the authors published none for this data set."""
    config = configs.base("sicl")
    config.data.name = "deepchange"
    config.model.pretrained = "imagenet"
    config.steps_per_epoch = 400
    config.neighbors.num = 5
    return config
