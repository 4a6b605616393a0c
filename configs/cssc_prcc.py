"""CSSC on PRCC."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """The published settings for this data set (`docs/methods/cssc.md`)."""
    config = configs.base("cssc")
    config.data.name = "prcc"
    config.model.pretrained = "imagenet"
    return config
