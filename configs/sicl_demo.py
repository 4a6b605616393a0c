"""The demo: a small model on the synthetic people, a few minutes on two CPU cores."""

import ml_collections

from sicl_jax import config as configs
from sicl_jax.weights import drawn_people


def get_config() -> ml_collections.ConfigDict:
    """SiCL from a network that knows people, in a place that it does not know.

    What differs from the published settings, and why: the network is the small one that comes with
    the package in place of ImageNet's ResNet-50; few images of each person make smaller
    neighbourhoods (k1, eps; an eps of 0.5 would be the exact distance of many pairs), and so few
    steps need a higher rate and all of the image (no erasing). The refinement is off: it would
    leave a third of the images alone, each a class of its own (docs/ablation.md).
    """
    config = configs.base("sicl")
    config.update_from_flattened_dict(drawn_people.RESNET.fields)
    config.data.name = "synthetic_people/demo"
    config.model.pretrained = drawn_people.NAME
    config.augment.pad = 5
    config.augment.erase = 0.0
    config.clustering.k1 = 20
    config.clustering.eps = 0.51
    config.clustering.refine = False
    config.optimizer.learning_rate = 1e-3
    config.schedule.every = 6
    config.epochs = 8
    config.steps_per_epoch = 30
    return config
