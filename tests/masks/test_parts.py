"""Mask files: the VOC palette and what comes back from a PNG."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from sicl_jax.data.pixels import Form
from sicl_jax.errors import UserError
from sicl_jax.masks.predict import silhouette_png
from tfds_builders.reid import images
from tfds_builders.reid.parts import PARTS, encode_parts, kind_of, not_clothes, voc_palette


def test_voc_colours():
    palette = voc_palette()
    published = {  # From the PASCAL VOC development kit.
        **{0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128)},
        **{8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)},
    }
    assert {label: tuple(palette[label].tolist()) for label in published} == published
    assert len(np.unique(palette, axis=0)) == 256


@pytest.mark.parametrize("kind", PARTS)
def test_parts_keep_size_values_and_their_kind(kind):
    classes = np.random.default_rng(0).integers(0, len(PARTS[kind]), (37, 22)).astype(np.uint8)
    with Image.open(io.BytesIO(encode_parts(classes, kind))) as image:
        assert (image.mode, image.size, kind_of(image)) == ("P", (22, 37), kind)
        np.testing.assert_array_equal(np.asarray(image), classes)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), voc_palette()[classes])


def test_silhouettes():
    classes = np.random.default_rng(0).integers(0, 20, (37, 22)).astype(np.uint8)
    with Image.open(io.BytesIO(silhouette_png(classes))) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), np.where(classes > 0, 255, 0))


def test_what_is_no_clothes_as_documented():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "masks.md").read_text()
    for kind, names in PARTS.items():
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {kind} "))
        _, _, kept, shielded, _ = (cell.strip() for cell in row.split("|"))
        table = dict(zip(names, not_clothes(kind).tolist(), strict=False))
        assert [name for name in names if table[name]] == kept.split(", ")
        assert [name for name in names if not table[name]] == shielded.split(", ")
    assert [len(names) for names in PARTS.values()] == [20, 18, 7]


def encoded(mask: Image.Image) -> bytes:
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def test_masks_of_what_is_kept():
    form = Form((2, 4), "bilinear", "keep")
    labels = np.array([[0, 5, 13, 9], [2, 7, 14, 18]], np.uint8)
    kept = [[255, 0, 255, 0], [255, 0, 255, 0]]
    np.testing.assert_array_equal(form.decode(encode_parts(labels, "lip")), kept)
    grey = np.array([[0, 255, 100, 64], [0, 0, 0, 7]], np.uint8)
    np.testing.assert_array_equal(form.decode(encoded(Image.fromarray(grey))), grey)
    colour = np.stack([grey, 255 - grey, grey], axis=-1)
    np.testing.assert_array_equal(form.decode(encoded(Image.fromarray(colour))), grey)
    binary = Image.fromarray(grey > 99)
    np.testing.assert_array_equal(form.decode(encoded(binary)), np.where(grey > 99, 255, 0))
    for mask in (Image.fromarray(labels), Image.fromarray(labels, "P")):
        with pytest.raises(UserError, match="does not say which parts"):
            form.decode(encoded(mask))


def test_a_mask_turned_with_its_image_still_says_its_kind():
    labels = np.array([[1, 2, 3, 4, 5, 6, 7, 8]] * 4, np.uint8)
    image = images.Picture(b"", (4, 8), orientation=6)
    checked = images.check_mask(encode_parts(labels, "lip"), image)
    with Image.open(io.BytesIO(checked.data)) as mask:
        assert kind_of(mask) == "lip"
        np.testing.assert_array_equal(np.asarray(mask), np.rot90(labels, -1))
