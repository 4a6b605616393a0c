"""Config of the network `drawn-people` of CLIP's shape; drawn_people_network.py takes it."""

import ml_collections

from sicl_jax import config as configs
from sicl_jax.weights import drawn_people


def get_config() -> ml_collections.ConfigDict:
    """CCLNet's demo begins with it."""
    config = configs.base("drawn_people_clip")
    config.update_from_flattened_dict(drawn_people.CLIP.fields)
    return config
