"""The face teacher of DeskPro on Celeb-reID."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """LMBN on restored faces, with DeskPro's schedule (`docs/methods/deskpro.md`, section 2)."""
    config = configs.base("lmbn")
    config.data.name = "celeb_reid"
    config.data.column = "face_restored"
    config.data.image_size = (224, 224)
    config.model.pretrained = "imagenet"
    config.model.streams = "released"
    return config
