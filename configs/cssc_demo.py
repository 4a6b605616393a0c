"""CSSC's demo: what identities are worth on the synthetic people, beside SiCL's demo without."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """CSSC at a scale at which a network learns from scratch.

    What differs from the published settings, and why: the images, the network and the epochs are
    those of SiCL's demo; without ImageNet weights a network needs a higher rate and all of the
    image (no erasing). The schedule keeps the published one's proportions.
    """
    config = configs.base("cssc")
    config.data.name = "synthetic_people/demo"
    config.data.image_size = (128, 64)
    config.model.block = "basic"
    config.model.stage_sizes = (1, 1, 1, 3)
    config.model.width = 16
    config.mining.part_features = 32
    config.augment.pad = 5
    config.augment.erase = 0.0
    config.sampler.num_instances = 8
    config.batch_size = 64
    config.optimizer.learning_rate = 2e-3
    config.schedule.warmup_epochs = 2
    config.schedule.milestones = (10, 13)
    config.loss.triplet_after = 5
    config.epochs = 15
    return config
