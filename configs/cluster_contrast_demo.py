"""Cluster Contrast on the synthetic people, a few minutes on two CPU cores."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """Cluster Contrast at a scale at which a network learns from scratch.

    What differs from the published settings is what differs in `sicl_demo.py`, for its reasons,
    and the batch: a fourth of the images, four of a cluster.
    """
    config = configs.base("cluster_contrast")
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
    config.batch_size = 64
    config.sampler.num_instances = 4
    config.evaluate.every = 5
    return config
