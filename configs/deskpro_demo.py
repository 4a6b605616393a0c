"""DeskPro's demo on the synthetic people and their faces."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """A small network that learns from scratch.

    Without ImageNet weights a network needs a higher rate and all of the image (no erasing).
    The teacher is that of `deskpro_teacher_demo`; `--config.teacher` names its workdir.
    """
    config = configs.base("deskpro")
    config.data.name = "synthetic_people/faces"
    config.data.image_size = (128, 64)
    config.data.face_size = (64, 64)
    config.model.features = 64
    config.model.blocks = (1, 2, 1)
    config.model.channels = (16, 64, 64, 128)
    config.augment.erase = 0.0
    config.batch_size = 32
    config.sampler.num_instances = 4
    config.optimizer.learning_rate = 2e-3
    config.schedule.start = 3
    config.schedule.warmup_epochs = 2
    config.schedule.end = 14
    config.epochs = 15
    return config
