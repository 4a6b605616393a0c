"""SiCL on DeepChange."""

import ml_collections

from sicl_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
    """PRCC's settings: the authors published none for this data set."""
    config = base.get_config()
    config.data.name = "deepchange"
    config.model.pretrained = "imagenet"
    config.steps_per_epoch = 400
    config.neighbors.num = 5
    return config
