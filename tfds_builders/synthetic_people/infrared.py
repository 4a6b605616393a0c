"""What an infrared camera sees: warm skin, and cold clothes whose colours and patterns vanish."""

import dataclasses

import numpy as np

from tfds_builders.synthetic_people import outfit as outfits
from tfds_builders.synthetic_people import seeds
from tfds_builders.synthetic_people.body import Body
from tfds_builders.synthetic_people.world import Shot

NOISE = 2.0
"""Factor of the noise: the sensor is a poorer one."""
_SKIN, _HAIR = 225.0, 95.0
_CONTRAST, _LEVEL = 0.4, 55.0  # Of the place behind.


def body(person: Body) -> Body:
    """Returns a person with glowing skin."""
    hair = dataclasses.replace(person.hair, colour=np.full(3, _HAIR))
    return dataclasses.replace(person, skin=np.full(3, _SKIN), hair=hair)


def outfit(seed: int, shot: Shot, clothes: outfits.Outfit) -> outfits.Outfit:
    """Returns an outfit in shades that have nothing to do with its colours."""
    rng = seeds.generator(seed, "infrared", shot.identity, shot.outfit)
    top, bottom, shoe, other = (np.full(3, level) for level in rng.uniform(75, 165, 4))
    return dataclasses.replace(
        clothes,
        pattern="plain",
        colour=top,
        second_colour=top,
        inner_colour=0.9 * top,
        bottom_colour=bottom,
        shoe_colour=shoe,
        sock_colour=shoe,
        carried_colour=other,
        hat_colour=other,
    )


def ground(picture: np.ndarray) -> np.ndarray:
    """Turns a background, (height, width, 3) float32, into dark grey of less contrast."""
    grey = picture.mean(axis=-1, keepdims=True)
    return np.repeat(_LEVEL + _CONTRAST * (grey - 140), 3, axis=-1)
