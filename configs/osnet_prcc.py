"""OSNet alone on PRCC."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """Cross-entropy and triplet loss of one head, at the public OSNet's size of images."""
    config = configs.base("osnet")
    config.data.name = "prcc"
    config.model.pretrained = "imagenet"
    return config
