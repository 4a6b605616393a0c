"""LMBN alone on PRCC: a strong, light supervised baseline."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """DeskPro's settings of one network (`docs/methods/deskpro.md`, sections 1 to 5)."""
    config = configs.base("lmbn")
    config.data.name = "prcc"
    config.model.pretrained = "imagenet"
    return config
