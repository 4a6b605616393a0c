"""SiCL on a folder of your own crops."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """PRCC's settings with half its steps: a start for data of unknown size."""
    config = configs.base("sicl")
    config.data.name = "person_folder"
    config.model.pretrained = "imagenet"
    config.steps_per_epoch = 200
    config.neighbors.num = 5
    return config
