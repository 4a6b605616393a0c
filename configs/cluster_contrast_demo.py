"""Cluster Contrast on the synthetic people, a few minutes on two CPU cores."""

import ml_collections

from sicl_jax import config as configs
from sicl_jax.weights import drawn_people


def get_config() -> ml_collections.ConfigDict:
    """Cluster Contrast from a network that knows people, in a place that it does not know.

    What differs from the published settings is what differs in `sicl_demo.py`, for its reasons,
    and the batch: a fourth of the images, four of a cluster.
    """
    config = configs.base("cluster_contrast")
    config.update_from_flattened_dict(drawn_people.RESNET.fields)
    config.data.name = "synthetic_people/demo"
    config.model.pretrained = drawn_people.NAME
    config.augment.pad = 5
    config.augment.erase = 0.0
    config.clustering.k1 = 20
    config.clustering.eps = 0.51
    config.optimizer.learning_rate = 1e-3
    config.schedule.every = 6
    config.epochs = 8
    config.steps_per_epoch = 30
    config.batch_size = 64
    config.sampler.num_instances = 4
    config.evaluate.every = 5
    return config
