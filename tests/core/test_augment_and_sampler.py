"""Augmentation and sampling against the laws they must obey."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sicl_jax.data import augment, sampler
from sicl_jax.errors import UserError

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


def _draw(labels, cameras, *, steps=20, batch_size=16, seed=0):
    return sampler.draw_epoch(
        np.asarray(labels),
        np.asarray(cameras),
        steps=steps,
        batch_size=batch_size,
        num_instances=4,
        rng=np.random.default_rng(seed),
    )


def test_every_pseudo_identity_gives_four_images_of_its_own_from_other_cameras():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 12)
    cameras = rng.integers(0, 3, 120)
    batches = _draw(labels, cameras)
    assert batches.shape == (20, 16) and batches.dtype == np.int32
    for group in batches.reshape(-1, 4):
        assert len(set(labels[group])) == 1
        assert len(set(group)) == 4
        assert np.all(cameras[group[1:]] != cameras[group[0]])


def test_all_identities_come_before_any_comes_again():
    labels = np.repeat(np.arange(10), 4)
    stream = labels[_draw(labels, np.arange(40) % 2, steps=5).reshape(-1, 4)[:, 0]]
    assert sorted(stream[:10]) == list(range(10)) == sorted(stream[10:20])


def test_one_camera_small_and_single_pseudo_identities():
    labels = np.array([0] * 6 + [1] * 2 + [2] + [3] * 20)
    stream = _draw(labels, np.zeros(29, int), steps=6).reshape(-1)
    runs = np.split(stream, np.flatnonzero(np.diff(labels[stream])) + 1)
    for run in runs[1:-1]:
        label = labels[run[0]]
        if label == 2:
            assert set(run) == {8}
        elif label == 0:  # enough images in one camera: no repeats within a draw of four
            assert len(set(run[:4])) == 4
        elif label == 1:  # two images only: the other one is drawn again and again
            assert set(run[1:4]) == {6, 7} - {run[0]}


def test_same_seed_same_batches():
    labels, cameras = np.repeat(np.arange(8), 5), np.arange(40) % 3
    np.testing.assert_array_equal(_draw(labels, cameras), _draw(labels, cameras))
    assert not np.array_equal(_draw(labels, cameras), _draw(labels, cameras, seed=1))


def test_fewer_images_than_a_batch_is_refused():
    with pytest.raises(UserError, match="5 training images are fewer than one batch of 16"):
        _draw(np.zeros(5, int), np.zeros(5, int))
