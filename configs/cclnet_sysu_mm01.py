"""CCLNet on SYSU-MM01."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """The published settings (`docs/methods/cclnet.md`)."""
    config = configs.base("cclnet")
    config.data.name = "sysu_mm01"
    config.model.pretrained = "clip-rn50"
    return config
