"""Random generators that depend on names, not on the order in which they are asked for."""

import zlib

import numpy as np

Key = int | str


def generator(seed: int, *keys: Key) -> np.random.Generator:
    """Returns the generator that belongs to `keys` under `seed`.

    Every thing that is drawn (a body, an outfit, one image) asks for the generator of its own
    name, so a data set is the same whatever the order and the number of processes that draw it.

    Args:
        seed: Non-negative seed of the whole data set.
        *keys: What is drawn, e.g. `('image', 'train', 3, 'A', 17)`. Strings are hashed, integers
            are taken as they are and must not be negative.
    """
    words = [zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys]
    return np.random.default_rng([seed, *words])
