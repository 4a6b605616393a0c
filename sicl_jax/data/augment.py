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
    keys = jax.random.split(key, 3)
    images = _flip(keys[0], images, config.flip)
    images = _pad_and_crop(keys[1], images, config.pad)
    return _erase(keys[2], normalize(images), config)


def _flip(key, images, probability):
    mirrored = jax.random.bernoulli(key, probability, (images.shape[0],))
    mirrored = mirrored.reshape((-1,) + (1,) * (images.ndim - 1))
    return jnp.where(mirrored, jnp.flip(images, axis=2), images)


def _pad_and_crop(key, images, pad):
    """A shift by up to `pad` pixels each way; what comes in from outside is 0."""
    batch, height, width = images.shape[:3]
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad)) + ((0, 0),) * (images.ndim - 3))
    starts = jax.random.randint(key, (batch, 2), 0, 2 * pad + 1)

    def crop(image, start):
        begin = (start[0], start[1]) + (0,) * (image.ndim - 2)
        return jax.lax.dynamic_slice(image, begin, (height, width) + image.shape[2:])

    return jax.vmap(crop)(padded, starts)


def _erase(key, images, config):
    """Fills one rectangle per image with the mean colour, after normalisation as published."""
    batch, height, width = images.shape[:3]
    keys = jax.random.split(key, batch)
    erased, top, left, bottom, right = jax.vmap(lambda k: _rectangle(k, height, width, config))(
        keys
    )
    rows = jnp.arange(height)[None, :, None]
    columns = jnp.arange(width)[None, None, :]

    def along(bound):
        return bound[:, None, None]

    inside = (rows >= along(top)) & (rows < along(bottom))
    inside &= (columns >= along(left)) & (columns < along(right))
    inside &= along(erased)
    return jnp.where(inside[..., None], _MEAN, images)


def _rectangle(key, height, width, config):
    """The first of 100 draws of (area, aspect) that fits strictly inside, placed at random.

    Returns:
        Whether there is one (and the coin says so), and its top, left, bottom and right bounds.
    """
    coin, area_key, aspect_key, top_key, left_key = jax.random.split(key, 5)
    area = jax.random.uniform(area_key, (_TRIES,), minval=config.erase_area[0],
                              maxval=config.erase_area[1]) * (height * width)  # fmt: skip
    aspect = jax.random.uniform(aspect_key, (_TRIES,), minval=config.erase_aspect[0],
                                maxval=config.erase_aspect[1])  # fmt: skip
    tall = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    wide = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    fits = (tall < height) & (wide < width)
    chosen = jnp.argmax(fits)
    tall, wide = tall[chosen], wide[chosen]
    erased = jax.random.bernoulli(coin, config.erase) & jnp.any(fits)
    top = jax.random.randint(top_key, (), 0, jnp.maximum(height - tall + 1, 1))
    left = jax.random.randint(left_key, (), 0, jnp.maximum(width - wide + 1, 1))
    return erased, top, left, top + tall, left + wide
