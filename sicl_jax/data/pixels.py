"""From encoded files to the pixels that a model sees."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

MASK_MODES = ("silhouette", "parsing")


def resized_image(data: bytes, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Decodes an image and resizes it with PIL's bicubic filter (algorithm.md, section 1).

    Args:
        data: an encoded image.
        size: height and width in pixels.
    """
    with Image.open(io.BytesIO(data)) as image:
        return resized(image.convert("RGB"), size)


def resized_mask(data: bytes, size: tuple[int, int], mode: str) -> UInt8[np.ndarray, "H W"]:
    """Decodes a mask, turns it into a grey picture and resizes that like an image.

    Labels become grey at the mask's own size, so no resizing ever mixes two labels into a third.

    Args:
        data: an encoded PNG: binary, grey or palette; 0 is background.
        size: height and width in pixels.
        mode: `silhouette` or `parsing`, see `grey_mask`.
    """
    with Image.open(io.BytesIO(data)) as mask:
        return resized(grey_mask(mask, mode), size)


def grey_mask(mask: Image.Image, mode: str) -> Image.Image:
    """The grey picture that a mask stands for.

    Args:
        mask: a binary, grey, palette or colour picture.
        mode: `silhouette`: 255 wherever the mask is not background (label, grey value or colour
            0), 0 elsewhere. `parsing`: the luminance of the palette's colours; a grey mask is
            taken as it is.
    """
    if mode == "parsing":
        return mask.convert("L")
    values = np.asarray(mask)
    person = values.any(axis=-1) if values.ndim == 3 else values != 0
    return Image.fromarray(np.where(person, np.uint8(255), np.uint8(0)))


def resized(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """A picture as an array of height and width `size`, by PIL's bicubic filter."""
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
