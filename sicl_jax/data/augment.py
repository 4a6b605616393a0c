"""Augmentation as pure functions of explicit draws, inside the jitted step.

The chain is: grey, flip, enlarge and crop, pad and crop, normalise, erase. A config says which of
these happen and how; each method's settings are in the first section of its page (`algorithm.md`
and `docs/methods/`). `augment` is the whole chain with draws of its own for each image. Pictures
of one sample that have to move alike (an image, its faces and its mask) share what `draw` gives:

    draws = draw(key, batch_size, config)
    image = apply(draws, image, config)
    mask = transform_bytes(draws, mask, config) / 255

Below that each stage is a function of decisions: which images, which offsets, which rectangles.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# Pillow resizes bytes with weights of so many binary digits.
_WEIGHT_BITS = 22


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """What is done to a training image.

    Attributes:
        grey: Probability of luminance in all three channels.
        flip: Probability of a mirror image.
        enlarge: Probability of enlarging the image by a factor before a crop of its own size.
        enlarge_by: That factor.
        pad: Pixels of zeros added on each side before the random crop.
        erase: Probability of erasing one rectangle.
        erase_area: Least and largest share of the image's area that is erased.
        erase_aspect: Least and largest height over width of the rectangle.
        erase_log_aspect: Whether the logarithm of that is uniform, rather than the ratio itself.
        erase_tries: Draws of area and aspect, of which the first whose rectangle is smaller than
            the image both ways is taken; if none is, nothing is erased.
        erase_fill: Colour of the rectangle, set after normalisation.
    """

    grey: float = 0.0
    flip: float = 0.5
    enlarge: float = 0.0
    enlarge_by: float = 1.05
    pad: int = 10
    erase: float = 0.5
    erase_area: tuple[float, float] = (0.02, 0.4)
    erase_aspect: tuple[float, float] = (0.3, 1 / 0.3)
    erase_log_aspect: bool = False
    erase_tries: int = 100
    erase_fill: tuple[float, float, float] = MEAN


class Draws(NamedTuple):
    """What chance decides, uniform in [0, 1), for a batch of B samples and T tries of erasing.

    An event of probability p happens where its draw is below p: a draw replaced by 1 forbids it to
    that sample (grey to infrared images, say).

    Attributes:
        grey: (B,).
        flip: (B,).
        enlarge: (B,).
        crop: (B, 2), top and left, of either crop.
        erase: (B,).
        place: (B, 2), top and left of the rectangle.
        area: (B, T).
        aspect: (B, T).
    """

    grey: jax.Array
    flip: jax.Array
    enlarge: jax.Array
    crop: jax.Array
    erase: jax.Array
    place: jax.Array
    area: jax.Array
    aspect: jax.Array


def draw(key: jax.Array, batch_size: int, config: AugmentConfig) -> Draws:
    """Draws for `batch_size` samples; those of one sample broadcast make a batch move as one."""
    # One call for what nearly every chain needs: each call is a long program for XLA to compile.
    # The two rarer events are drawn apart; a chain without them compiles nothing for them.
    tries = config.erase_tries
    numbers = jax.random.uniform(key, (batch_size, 6 + 2 * tries))
    rarer = jax.random.uniform(jax.random.fold_in(key, 1), (batch_size, 2))
    return Draws(
        grey=rarer[:, 0],
        flip=numbers[:, 0],
        enlarge=rarer[:, 1],
        crop=numbers[:, 1:3],
        erase=numbers[:, 3],
        place=numbers[:, 4:6],
        area=numbers[:, 6 : 6 + tries],
        aspect=numbers[:, 6 + tries :],
    )


def augment(key: jax.Array, images: jax.Array, config: AugmentConfig) -> jax.Array:
    """The whole chain, each image by draws of its own; see `apply`."""
    return apply(draw(key, len(images), config), images, config)


def apply(draws: Draws, images: jax.Array, config: AugmentConfig) -> jax.Array:
    """The whole chain, by given draws.

    Args:
        draws: Of the batch.
        images: (B, H, W, 3) uint8, or (B, H, W) uint8 grey silhouettes.
        config: Strengths.

    Returns:
        (B, H, W, 3), normalised, of JAX's default float type.
    """
    images = normalize(transform_bytes(draws, images, config))
    if not config.erase:
        return images
    return erase(images, rectangles(draws, images.shape[1:3], config), config.erase_fill)


def transform_bytes(draws: Draws, images: jax.Array, config: AugmentConfig) -> jax.Array:
    """The part of the chain before normalisation: uint8 images to uint8 images of that shape."""
    if config.grey:
        images = grey(images, draws.grey < config.grey)
    images = flip(images, draws.flip < config.flip)
    if config.enlarge:
        size = np.array(images.shape[1:3])
        room = np.array([_enlarged(s, config.enlarge_by) for s in size]) - size
        starts = jnp.round(draws.crop * room).astype(jnp.int32)
        images = enlarge_and_crop(images, draws.enlarge < config.enlarge, starts, config.enlarge_by)
    if config.pad:
        images = pad_and_crop(images, _integers(draws.crop, 2 * config.pad + 1), config.pad)
    return images


def normalize(images: jax.Array) -> jax.Array:
    """Maps uint8 images (..., 3), or grey ones (...,) repeated to three channels, to floats.

    Channels get the mean and the deviation that ImageNet's published weights expect.
    """
    if images.shape[-1] != 3:
        images = jnp.repeat(images[..., None], 3, axis=-1)
    images = jnp.asarray(images).astype(float)
    return (images / 255.0 - jnp.array(MEAN, images.dtype)) / jnp.array(STD, images.dtype)


def grey(images: jax.Array, chosen: jax.Array) -> jax.Array:
    """Replaces the chosen (B,) of images (B, H, W, 3) by their luminance, as Pillow rounds it."""
    luminance = jnp.matmul(images.astype(jnp.int32), jnp.array([19595, 38470, 7471]))
    luminance = ((luminance + 0x8000) >> 16).astype(jnp.uint8)[..., None]
    return jnp.where(_per_image(chosen, images), luminance, images)


def flip(images: jax.Array, chosen: jax.Array) -> jax.Array:
    """Mirrors the chosen (B,) of images (B, H, W, ...) left to right."""
    return jnp.where(_per_image(chosen, images), jnp.flip(images, axis=2), images)


def enlarge_and_crop(
    images: jax.Array, chosen: jax.Array, starts: jax.Array, factor: float
) -> jax.Array:
    """Enlarges images as Pillow's bilinear filter does, and crops them to the size they had.

    Args:
        images: (B, H, W, ...) uint8.
        chosen: (B,) bool; the others stay as they are.
        starts: (B, 2) int, top and left of the crop in the enlarged image.
        factor: Of both sizes, which are rounded; at least 1.
    """
    large = images
    for axis in (2, 1):  # Pillow's order, with bytes between.
        large = _resized_axis(large, axis, _enlarged(images.shape[axis], factor))
    cropped = _crop(large, starts, images.shape[1:3])
    return jnp.where(_per_image(chosen, images), cropped, images)


def pad_and_crop(images: jax.Array, starts: jax.Array, pad: int) -> jax.Array:
    """Shifts images by up to `pad` pixels each way; what comes in from outside is 0.

    Args:
        images: (B, H, W, ...).
        starts: (B, 2) int, top and left of the crop in the padded image: 0 to 2 pad.
        pad: Zeros on each side.
    """
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad)) + ((0, 0),) * (images.ndim - 3))
    return _crop(padded, starts, images.shape[1:3])


def rectangles(draws: Draws, size: tuple[int, int], config: AugmentConfig) -> jax.Array:
    """The first of T draws of (area, aspect) that fits strictly inside, placed at random.

    Args:
        draws: Of the batch.
        size: H and W of the images.
        config: Strengths.

    Returns:
        (B, 4) int32: top, left, height and width; all 0 where nothing is erased.
    """
    height, width = size
    area = _between(config.erase_area, draws.area) * (height * width)
    if config.erase_log_aspect:
        low, high = config.erase_aspect
        aspect = jnp.exp(_between((math.log(low), math.log(high)), draws.aspect))
    else:
        aspect = _between(config.erase_aspect, draws.aspect)
    tall = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    wide = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    fits = (tall < height) & (wide < width)
    first = jnp.argmax(fits, axis=1)[:, None]
    tall = jnp.take_along_axis(tall, first, axis=1)[:, 0]
    wide = jnp.take_along_axis(wide, first, axis=1)[:, 0]
    top = _integers(draws.place[:, 0], height - tall + 1)
    left = _integers(draws.place[:, 1], width - wide + 1)
    erased = (draws.erase < config.erase) & jnp.any(fits, axis=1)
    return jnp.where(erased[:, None], jnp.stack([top, left, tall, wide], axis=1), 0)


def erase(images: jax.Array, boxes: jax.Array, fill: tuple[float, float, float]) -> jax.Array:
    """Fills a rectangle of each image (B, H, W, 3): boxes (B, 4) are top, left, height, width."""
    top, left, tall, wide = (boxes[:, i, None] for i in range(4))
    rows = jnp.arange(images.shape[1])[None, :]
    columns = jnp.arange(images.shape[2])[None, :]
    inside_rows = (rows >= top) & (rows < top + tall)
    inside_columns = (columns >= left) & (columns < left + wide)
    inside = inside_rows[:, :, None] & inside_columns[:, None, :]
    return jnp.where(inside[..., None], jnp.array(fill, images.dtype), images)


def _per_image(chosen, images):
    return chosen.reshape((-1,) + (1,) * (images.ndim - 1))


def _crop(images, starts, size):
    def crop(image, start):
        begin = jnp.pad(start, (0, image.ndim - 2))
        return jax.lax.dynamic_slice(image, begin, (*size, *image.shape[2:]))

    return jax.vmap(crop)(images, starts)


def _integers(draws, bound):
    """Uniform integers in [0, bound) from uniform draws in [0, 1)."""
    return jnp.minimum(jnp.floor(draws * bound).astype(jnp.int32), bound - 1)


def _between(bounds, draws):
    return bounds[0] + draws * (bounds[1] - bounds[0])


def _enlarged(size: int, factor: float) -> int:
    return round(int(size) * factor)


def _resized_axis(images, axis, size):
    """One pass of Pillow's bilinear filter, enlarging: three weighted samples, rounded to bytes."""
    samples, weights = _bilinear(images.shape[axis], size)
    shape = [1] * images.ndim
    shape[axis] = size
    total = sum(
        jnp.take(images, samples[:, k], axis).astype(jnp.int32) * weights[:, k].reshape(shape)
        for k in range(samples.shape[1])
    )
    return ((total + (1 << (_WEIGHT_BITS - 1))) >> _WEIGHT_BITS).astype(jnp.uint8)


def _bilinear(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """What each of `new` samples is made of: three of the `old`, with fixed-point weights.

    Returns:
        (new, 3) int32 samples and (new, 3) int32 weights, multiples of 2^-22.
    """
    centers = (np.arange(new) + 0.5) * (old / new)
    samples = np.floor(centers).astype(np.int32)[:, None] + np.array([-1, 0, 1], np.int32)
    weights = np.maximum(0.0, 1.0 - np.abs(samples + 0.5 - centers[:, None]))
    weights[(samples < 0) | (samples >= old)] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    fixed = np.floor(0.5 + weights * (1 << _WEIGHT_BITS)).astype(np.int32)
    return np.clip(samples, 0, old - 1), fixed
