"""DeskPro on Celeb-reID-light."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """The published settings (`docs/methods/deskpro.md`); `teacher` is yours to name."""
    config = configs.base("deskpro")
    config.data.name = "celeb_reid_light"
    config.model.pretrained = "imagenet"
    config.loss.alpha = 0.7
    config.loss.temperature = 5.0
    return config
