"""Cluster Contrast on a folder of your own crops."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """Market-1501's settings, but one pass over the clusters an epoch: of any number of images."""
    config = configs.base("cluster_contrast")
    config.data.name = "person_folder"
    config.model.pretrained = "imagenet"
    config.steps_per_epoch = 0
    return config
