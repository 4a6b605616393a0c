"""CCLNet's demo on the synthetic people in visible light and infrared."""

import ml_collections

from sicl_jax import config as configs
from sicl_jax.weights import drawn_people


def get_config() -> ml_collections.ConfigDict:
    """A small CLIP that comes with the package: it knows people, and none of them in infrared.

    Few images a person make smaller neighbourhoods (k1, eps); so few steps need a higher rate and
    all of the image (no erasing).
    """
    config = configs.base("cclnet")
    config.data.name = "synthetic_people/infrared"
    config.update_from_flattened_dict(drawn_people.CLIP.fields)
    config.model.pretrained = drawn_people.NAME
    config.augment.pad = 5
    config.augment.erase = 0.0
    config.clustering.k1 = 20
    config.clustering.eps = 0.5
    config.batch_size = 64
    config.sampler.num_instances = 8
    config.optimizer.learning_rate = 1e-3
    config.schedule.warmup_epochs = 0
    config.schedule.milestones = (5,)
    config.exchange.after = 3
    config.epochs = 6
    config.prompts.epochs = 6
    config.prompts.learning_rate = 1e-2
    config.prompts.batch_size = 64
    return config
