"""CCLNet on RegDB."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """The settings of SYSU-MM01: for RegDB none are published. One trial of ten."""
    config = configs.base("cclnet")
    config.data.name = "regdb"
    config.model.pretrained = "clip-rn50"
    return config
