"""Augmentation against the laws it must obey."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from sicl_jax.data import augment

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def _config(**changes):
    return augment.AugmentConfig(**{"flip": 0.0, "pad": 0, "erase": 0.0} | changes)


def _images(batch=4, height=32, width=16):
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8)


def test_without_augmentation_only_normalisation_is_left():
    images = _images()
    got = augment.augment(jax.random.key(0), jnp.asarray(images), _config())
    np.testing.assert_allclose(got, (images / 255.0 - MEAN) / STD, rtol=1e-5, atol=1e-5)


def test_a_grey_silhouette_is_repeated_to_three_channels():
    grey = _images()[..., 0]
    got = augment.augment(jax.random.key(0), jnp.asarray(grey), _config())
    expected = (np.repeat(grey[..., None], 3, -1) / 255.0 - MEAN) / STD
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_flip_mirrors_whole_images():
    images = _images(batch=64)
    got = augment.augment(jax.random.key(1), jnp.asarray(images), _config(flip=0.5))
    plain = np.asarray(augment.normalize(jnp.asarray(images)))
    same = np.array([np.array_equal(g, p) for g, p in zip(got, plain, strict=True)])
    mirrored = np.array([np.array_equal(g, p[:, ::-1]) for g, p in zip(got, plain, strict=True)])
    assert np.all(same ^ mirrored)
    assert 16 < mirrored.sum() < 48


def test_crop_is_a_shift_with_zeros_from_outside():
    images = _images(batch=32)
    got = np.asarray(augment.augment(jax.random.key(2), jnp.asarray(images), _config(pad=3)))
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)))
    shifts = set()
    for image, result in zip(padded, got, strict=True):
        for top in range(7):
            for left in range(7):
                window = (image[top : top + 32, left : left + 16] / 255.0 - MEAN) / STD
                if np.allclose(window, result, atol=1e-5):
                    shifts.add((top, left))
    assert len(shifts) > 15  # 32 draws of 49 shifts; each image was found at some shift
    assert {top for top, _ in shifts} | {left for _, left in shifts} == set(range(7))


def test_erasing_fills_one_rectangle_of_the_promised_size():
    batch, height, width = 400, 64, 32
    images = jnp.full((batch, height, width, 3), 255, jnp.uint8)
    got = np.asarray(augment.augment(jax.random.key(3), images, _config(erase=0.5)))
    erased = np.all(np.isclose(got, MEAN, atol=1e-6), axis=-1)
    count = 0
    for mask in erased:
        if not mask.any():
            continue
        count += 1
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        tall, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert mask.sum() == tall * wide
        assert tall < height and wide < width
        # Rounding to whole pixels moves area and aspect a little.
        assert 0.02 * 0.8 < mask.sum() / (height * width) < 0.4 * 1.1
        assert 0.3 * 0.75 < tall / wide < 1 / 0.3 * 1.35
    assert 150 < count < 250


def test_image_and_silhouette_are_drawn_independently_and_by_the_key_alone():
    images = jnp.asarray(_images(batch=16))
    config = augment.AugmentConfig(pad=3)
    first = augment.augment(jax.random.key(4), images, config)
    again = augment.augment(jax.random.key(4), images, config)
    other = augment.augment(jax.random.key(5), images, config)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_enlarging_and_grey_are_those_of_pillow_byte_for_byte():
    images = _images(batch=3, height=50, width=23)
    chosen = np.array([True, False, True])
    starts = np.array([[0, 0], [1, 1], [2, 1]])
    large = np.asarray(augment.enlarge_and_crop(jnp.asarray(images), chosen, starts, 1.05))
    grey = np.asarray(augment.grey(jnp.asarray(images), chosen))
    for i, (top, left) in enumerate(starts):
        if not chosen[i]:
            np.testing.assert_array_equal(large[i], images[i])
            np.testing.assert_array_equal(grey[i], images[i])
            continue
        picture = Image.fromarray(images[i])
        whole = np.asarray(picture.resize((24, 52), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(large[i], whole[top : top + 50, left : left + 23])
        luminance = np.asarray(picture.convert("L"))
        np.testing.assert_array_equal(grey[i], np.repeat(luminance[..., None], 3, axis=-1))


def test_grey_may_be_forbidden_to_some_samples():
    images = jnp.asarray(_images(batch=6))
    config = _config(grey=1.0)
    draws = augment.draw(jax.random.key(0), 6, config)
    draws = draws._replace(grey=jnp.where(jnp.arange(6) < 3, draws.grey, 1.0))
    moved = np.asarray(augment.transform_bytes(draws, images, config))
    assert np.all(moved[:3] == moved[:3, ..., :1])
    np.testing.assert_array_equal(moved[3:], images[3:])


def test_pictures_of_one_sample_move_alike_whatever_their_sizes():
    config = _config(flip=0.5, enlarge=0.5, enlarge_by=1.25)
    draws = augment.draw(jax.random.key(0), 32, config)
    # A picture whose left half is bright, whose upper half is red, and one twice as large.
    rows, columns = np.indices((16, 8))
    picture = np.stack([255 * (rows < 8), 255 * (columns < 4), 0 * rows], -1).astype(np.uint8)
    large = picture.repeat(2, axis=0).repeat(2, axis=1)
    small = np.asarray(augment.transform_bytes(draws, np.stack([picture] * 32), config))
    large = np.asarray(augment.transform_bytes(draws, np.stack([large] * 32), config))
    # The edges, in pixels of the small one: within half a pixel, for offsets are rounded.
    for axis, channel in ((1, 0), (2, 1)):
        edge = (small[..., channel] > 127).mean(axis=axis).mean(axis=1)
        same = (large[..., channel] > 127).mean(axis=axis).mean(axis=1)
        assert np.abs(edge - same).max() * small.shape[axis] <= 1
        assert len(np.unique(edge)) > 1


def test_erasing_takes_the_first_try_that_fits_and_none_if_none_does():
    config = _config(erase=0.5, erase_tries=3, erase_aspect=(0.3, 3.3))
    draws = augment.Draws(
        *(jnp.zeros(4),) * 3,
        crop=jnp.zeros((4, 2)),
        erase=jnp.array([0.0, 0.4, 0.6, 0.0]),
        place=jnp.array([[0.0, 0.0], [0.999, 0.999], [0.0, 0.0], [0.5, 0.5]]),
        area=jnp.array([[0.5, 0.5, 0.5], [1.0, 1.0, 0.0], [0.5, 0.5, 0.5], [1.0, 1.0, 1.0]]),
        aspect=jnp.array([[0.5, 0.5, 0.5], [0.0, 0.0, 0.5], [0.5, 0.5, 0.5], [0.0, 0.0, 0.0]]),
    )
    uniform = np.asarray(augment.rectangles(draws, (64, 32), config))
    # Area 0.21 x 2048 and ratio 1.8; area 0.02 x 2048 in the corner; wider than the image.
    np.testing.assert_array_equal(uniform, [[0, 0, 28, 15], [55, 27, 9, 5], [0] * 4, [0] * 4])
    config = dataclasses.replace(config, erase_log_aspect=True)
    logarithmic = np.asarray(augment.rectangles(draws, (64, 32), config))
    np.testing.assert_array_equal(logarithmic[0], [0, 0, 21, 21])  # Ratio sqrt(0.3 x 3.3).


def test_a_rectangle_has_the_colour_that_the_config_says():
    images = np.random.default_rng(0).random((2, 32, 16, 3), np.float32)
    boxes = jnp.array([[1, 2, 3, 4], [0, 0, 0, 0]])
    expected = images.copy()
    expected[0, 1:4, 2:6] = (1, 2, 3)
    np.testing.assert_array_equal(augment.erase(images, boxes, (1, 2, 3)), expected)
