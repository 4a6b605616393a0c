"""The way from an image to the parser's input, and from its logits back (SCHP's extractor).

An image's box (0, 0, w - 1, h - 1) is widened about its centre to a square and mapped onto the
network's square input, corner to corner. The map has no rotation, so in pixel coordinates it is

    input = scale * image + offset,   the same scale on both axes.
"""

import functools
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from sicl_jax.masks.resize import align_corners_matrix

# ImageNet's statistics in the order blue, green, red.
MEAN = (0.406, 0.456, 0.485)
STD = (0.225, 0.224, 0.229)

_ROWS_AT_A_TIME = 64


class InputMap(NamedTuple):
    """The affine map of an image's pixels (x, y) onto those of the network's input."""

    scale: float
    offset_x: float
    offset_y: float

    @classmethod
    def of(cls, height: int, width: int, input_size: int) -> "InputMap":
        """Returns the map of an image of `height` x `width` onto a square of `input_size`."""
        side = max(height - 1, width - 1, 1)  # A single pixel has no extent: any scale will do.
        scale, middle = (input_size - 1) / side, (input_size - 1) / 2
        return cls(scale, middle - scale * (width - 1) / 2, middle - scale * (height - 1) / 2)


def network_input(image: UInt8[np.ndarray, "h w 3"], input_size: int) -> UInt8[np.ndarray, "s s 3"]:
    """Warps an image onto the network's square, bilinear, black outside.

    Args:
        image: Blue, green, red.
        input_size: Side S of the square.
    """
    scale, offset_x, offset_y = InputMap.of(*image.shape[:2], input_size)
    matrix = np.array([[scale, 0, offset_x], [0, scale, offset_y]])
    return cv2.warpAffine(image, matrix, (input_size, input_size), flags=cv2.INTER_LINEAR)


def normalize(images: UInt8[Array, "b s s 3"]) -> Float[Array, "b s s 3"]:
    """Scales to [0, 1] and normalises, on the device: bytes travel there, not floats."""
    return (images.astype(jnp.float32) / 255 - jnp.asarray(MEAN)) / jnp.asarray(STD)


def way_back(
    height: int, width: int, logits_size: int, input_size: int
) -> tuple[Float[np.ndarray, "h n"], Float[np.ndarray, "w n"]]:
    """Returns the two matrices that bring logits to an image's size: rows and columns.

    Each is the product of resizing the logits to the input's size, corners aligned, and reading
    that at the places of the image's pixels, bilinear: at most four non-zeros in a row.

    Args:
        height: The image's.
        width: The image's.
        logits_size: Side n of the logits.
        input_size: Side of the network's input.
    """
    scale, offset_x, offset_y = InputMap.of(height, width, input_size)
    rows = scale * np.arange(height) + offset_y
    columns = scale * np.arange(width) + offset_x
    resize = _resizing(input_size, logits_size)
    return _read(resize, rows), _read(resize, columns)


@functools.cache
def _resizing(input_size: int, logits_size: int) -> np.ndarray:
    return align_corners_matrix(input_size, logits_size)


def _read(resize: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Computes `linear_sampling_matrix(positions, len(resize)) @ resize` from two rows each."""
    padded = np.pad(resize, ((1, 2), (0, 0)))
    below = np.clip(np.floor(positions), -1, len(resize)).astype(int)
    part = (positions - below)[:, None]
    return ((1 - part) * padded[below + 1] + part * padded[below + 2]).astype(np.float32)


def padded_size(size: int) -> int:
    """Returns the next power of two from 64: few sizes, so few compiled programs."""
    return max(_ROWS_AT_A_TIME, 1 << (size - 1).bit_length())


@jax.jit
def classes_at_image_size(
    logits: Float[Array, "b n n k"],
    rows: Float[Array, "b h n"],
    columns: Float[Array, "b w n"],
) -> UInt8[Array, "b h w"]:
    """Returns the class of each pixel of images that `way_back` was asked for.

    Args:
        logits: float32.
        rows: float32, padded below to a common h, a multiple of 64.
        columns: float32, padded below to a common w.

    Returns:
        The arg max over classes; what lies beyond an image's own size means nothing.
    """
    precision = jax.lax.Precision.HIGHEST
    across = jnp.einsum("bwj,bijk->biwk", columns, logits, precision=precision)

    def classes(strip):  # Strip by strip, so that a large image's logits are never whole.
        here = jnp.einsum("bhi,biwk->bhwk", strip, across, precision=precision)
        return jnp.argmax(here, axis=-1).astype(jnp.uint8)

    batch, height, size = rows.shape
    strips = rows.reshape(batch, height // _ROWS_AT_A_TIME, _ROWS_AT_A_TIME, size)
    strips = jax.lax.map(classes, jnp.moveaxis(strips, 1, 0))
    return jnp.moveaxis(strips, 0, 1).reshape(batch, height, -1)
