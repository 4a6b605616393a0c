"""The own method on the own data set, at a size of seconds."""

from sicl_jax import config as configs


def get_config():
    """A tiny network on small images."""
    config = configs.base("two_views")
    config.data.name = "corridor"
    config.data.image_size = (64, 32)
    config.model.update({"block": "basic", "stage_sizes": (1, 1), "width": 4, "projection": 8})
    config.augment.pad = 3
    config.epochs, config.steps_per_epoch, config.batch_size = 3, 4, 8
    config.evaluate.select_by = "other_day"
    return config
