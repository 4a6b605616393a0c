"""CCLNet on LLCM."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """The settings of SYSU-MM01: for LLCM none are published."""
    config = configs.base("cclnet")
    config.data.name = "llcm"
    config.model.pretrained = "clip-rn50"
    return config
