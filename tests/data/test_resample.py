"""Resizing against PIL's own."""

import numpy as np
import pytest
from PIL import Image

from sicl_jax.data.resample import FILTERS, resized


@pytest.mark.parametrize("resize", FILTERS)
def test_every_bit_is_pils(resize):
    rng = np.random.default_rng(0)
    shapes = [(*rng.integers(1, 99, 4), rng.choice([1, 3])) for _ in range(40)]
    # Lanczos and bicubic overshoot at hard edges; heights that fall more than widths go first.
    shapes += [(90, 40, 60, 26, 3), (90, 40, 60, 25, 3), (90, 40, 60, 24, 3), (50, 9, 49, 80, 3)]
    for height, width, new_height, new_width, channels in shapes:
        shape = (height, width, channels)[: 2 if channels == 1 else 3]
        pixels = rng.choice(np.array([0, 3, 128, 255], np.uint8), shape)
        new = Image.fromarray(pixels).resize(
            (new_width, new_height), Image.Resampling[resize.upper()]
        )
        found = resized(pixels, (new_height, new_width), resize)
        np.testing.assert_array_equal(found, np.asarray(new), str((shape, new.size)))
