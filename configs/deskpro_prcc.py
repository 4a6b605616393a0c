"""DeskPro on PRCC."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """The published settings (`docs/methods/deskpro.md`); `teacher` is yours to name."""
    config = configs.base("deskpro")
    config.data.name = "prcc"
    config.model.pretrained = "imagenet"
    config.loss.alpha = 0.8
    config.loss.temperature = 1.0
    return config
