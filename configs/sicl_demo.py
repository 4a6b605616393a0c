"""The demo: a small model on the synthetic people, a few minutes on two CPU cores."""

import ml_collections

from sicl_jax.configs import base


def get_config() -> ml_collections.ConfigDict:
    """SiCL at a scale at which learning is seen from scratch."""
    config = base.get_config()
    config.data.name = "synthetic_people/demo"
    config.data.image_size = (128, 64)
    config.model.block = "basic"
    config.model.stage_sizes = (1, 1, 1, 1)
    config.model.width = 16
    config.augment.pad = 5
    config.epochs = 10
    config.steps_per_epoch = 25
    return config
