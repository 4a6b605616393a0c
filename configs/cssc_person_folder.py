"""CSSC on a folder of your own crops, in folders named by person."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """The published settings, with fewer images of a person: a start for data of unknown size."""
    config = configs.base("cssc")
    config.data.name = "person_folder"
    config.model.pretrained = "imagenet"
    config.sampler.num_instances = 4
    return config
