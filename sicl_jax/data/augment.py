"""Augmentation as pure functions of a key, inside the jitted step (`algorithm.md` section 1)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_TRIES = 100


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """What is done to a training image.

    Attributes:
        flip: Probability of a mirror image.
        pad: Pixels of zeros added on each side before the random crop.
        erase: Probability of erasing one rectangle.
        erase_area: Least and largest share of the image's area that is erased.
        erase_aspect: Least and largest height over width of the rectangle.
    """

    flip: float = 0.5
    pad: int = 10
    erase: float = 0.5
    erase_area: tuple[float, float] = (0.02, 0.4)
    erase_aspect: tuple[float, float] = (0.3, 1 / 0.3)


def normalize(images: jax.Array) -> jax.Array:
    """Maps uint8 images (..., 3), or grey ones (...,) repeated to three channels, to float32."""
    if images.shape[-1] != 3:
        images = jnp.repeat(images[..., None], 3, axis=-1)
    return (images.astype(jnp.float32) / 255.0 - _MEAN) / _STD


def augment(key: jax.Array, images: jax.Array, config: AugmentConfig) -> jax.Array:
    """Flips, shifts, normalises and erases a batch, each image by a draw of its own.

    Args:
        key: Random key.
        images: (B, H, W, 3) uint8, or (B, H, W) uint8 grey silhouettes.
        config: Strengths.

    Returns:
        (B, H, W, 3) float32, normalised.
    """
    # One call for all that is random: each call is a long program for XLA to compile.
    draws = jax.random.uniform(key, (images.shape[0], 6 + 2 * _TRIES))
    images = _flip(draws[:, 0], images, config.flip)
    images = _pad_and_crop(draws[:, 1:3], images, config.pad)
    return _erase(draws[:, 3:], normalize(images), config)


def _flip(draws, images, probability):
    mirrored = (draws < probability).reshape((-1,) + (1,) * (images.ndim - 1))
    return jnp.where(mirrored, jnp.flip(images, axis=2), images)


def _pad_and_crop(draws, images, pad):
    """A shift by up to `pad` pixels each way; what comes in from outside is 0."""
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad)) + ((0, 0),) * (images.ndim - 3))
    starts = _integers(draws, 2 * pad + 1)

    def crop(image, start):
        begin = (start[0], start[1]) + (0,) * (image.ndim - 2)
        return jax.lax.dynamic_slice(image, begin, (height, width) + image.shape[2:])

    return jax.vmap(crop)(padded, starts)


def _integers(draws, bound):
    """Uniform integers in [0, bound) from uniform draws in [0, 1)."""
    return jnp.minimum(jnp.floor(draws * bound).astype(jnp.int32), bound - 1)


def _erase(draws, images, config):
    """Fills one rectangle per image with the mean colour, after normalisation as published."""
    height, width = images.shape[1:3]
    erased, top, left, bottom, right = _rectangles(draws, height, width, config)
    rows = jnp.arange(height)[None, :]
    columns = jnp.arange(width)[None, :]
    inside_rows = (rows >= top[:, None]) & (rows < bottom[:, None]) & erased[:, None]
    inside_columns = (columns >= left[:, None]) & (columns < right[:, None])
    inside = inside_rows[:, :, None] & inside_columns[:, None, :]
    return jnp.where(inside[..., None], _MEAN, images)


def _rectangles(draws, height, width, config):
    """The first of 100 draws of (area, aspect) that fits strictly inside, placed at random.

    Args:
        draws: (B, 3 + 200) uniform in [0, 1).
        height: H of the images.
        width: W of the images.
        config: Strengths.

    Returns:
        Whether there is one (and the coin says so), and its top, left, bottom and right bounds,
        each (B,).
    """
    coin, place = draws[:, 0], draws[:, 1:3]
    area = _between(config.erase_area, draws[:, 3 : 3 + _TRIES]) * (height * width)
    aspect = _between(config.erase_aspect, draws[:, 3 + _TRIES :])
    tall = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    wide = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    fits = (tall < height) & (wide < width)
    chosen = jnp.argmax(fits, axis=1)[:, None]
    tall = jnp.take_along_axis(tall, chosen, axis=1)[:, 0]
    wide = jnp.take_along_axis(wide, chosen, axis=1)[:, 0]
    erased = (coin < config.erase) & jnp.any(fits, axis=1)
    top = _integers(place[:, 0], height - tall + 1)
    left = _integers(place[:, 1], width - wide + 1)
    return erased, top, left, top + tall, left + wide


def _between(bounds, draws):
    return bounds[0] + draws * (bounds[1] - bounds[0])
