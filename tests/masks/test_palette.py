"""Mask files: the VOC palette and what comes back from a PNG."""

import io

import numpy as np
import pytest
from PIL import Image

from sicl_jax.masks.palette import mask_png, voc_palette


def test_voc_colours():
    palette = voc_palette()
    published = {  # From the PASCAL VOC development kit.
        **{0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128)},
        **{8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)},
    }
    assert {label: tuple(palette[label].tolist()) for label in published} == published
    assert len(np.unique(palette, axis=0)) == 256


@pytest.mark.parametrize("mode", ["parsing", "silhouette"])
def test_png_keeps_size_and_values(mode):
    classes = np.random.default_rng(0).integers(0, 20, (37, 22)).astype(np.uint8)
    with Image.open(io.BytesIO(mask_png(classes, mode))) as image:
        assert image.size == (22, 37)
        values = np.asarray(image)
        if mode == "parsing":
            assert image.mode == "P"
            np.testing.assert_array_equal(values, classes)
            colours = np.asarray(image.convert("RGB"))
            np.testing.assert_array_equal(colours, voc_palette()[classes])
        else:
            assert image.mode == "L"
            np.testing.assert_array_equal(values, np.where(classes > 0, 255, 0))
