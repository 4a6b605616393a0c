"""CSSC on Celeb-reID."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """The published settings for this data set (`docs/methods/cssc.md`)."""
    config = configs.base("cssc")
    config.data.name = "celeb_reid"
    config.model.pretrained = "imagenet"
    config.sampler.num_instances = 4
    return config
