"""The demo: a small model on the synthetic people, a few minutes on two CPU cores."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """SiCL at a scale at which a network learns from scratch.

    What differs from the published settings, and why: fewer images a person make smaller
    neighbourhoods (k1, eps), and a network without ImageNet weights needs a higher rate and all of
    the image (no erasing). An eps of 0.5 would be the exact distance of many pairs.
    """
    config = configs.base("sicl")
    config.data.name = "synthetic_people/demo"
    config.data.image_size = (128, 64)
    config.model.block = "basic"
    config.model.stage_sizes = (1, 1, 1, 1)
    config.model.width = 16
    config.augment.pad = 5
    config.augment.erase = 0.0
    config.clustering.k1 = 20
    config.clustering.eps = 0.51
    config.optimizer.learning_rate = 2e-3
    config.schedule.every = 11
    config.epochs = 15
    config.steps_per_epoch = 40
    return config
