"""CCLNet's demo on the synthetic people in visible light and infrared."""

import ml_collections

from sicl_jax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """A small CLIP that learns from scratch, without CLIP's weights: its texts know nothing.

    Few images a person make smaller neighbourhoods (k1, eps: at 0.6 one cluster holds half of the
    visible images); a network that is drawn needs a higher rate and all of the image (no erasing).
    """
    config = configs.base("cclnet")
    config.data.name = "synthetic_people/infrared"
    config.data.image_size = (128, 64)
    config.model.stage_sizes = (1, 1, 1, 1)
    config.model.width = 8
    config.model.embed_dim = 64
    config.model.text_width = 64
    config.model.text_layers = 2
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
