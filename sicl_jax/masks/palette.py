"""Masks as PNG files: SCHP's palette of parts, or black and white."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

MODES = ("parsing", "silhouette")


def voc_palette(num_colors: int = 256) -> UInt8[np.ndarray, "n 3"]:
    """The PASCAL VOC palette, red, green, blue.

    A label's bits are dealt to the three channels in turn, the lowest first, and fill each channel
    from its highest bit down.
    """
    labels = np.arange(num_colors)
    palette = np.zeros((num_colors, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = (labels >> (3 * place + channel)) & 1
            palette[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return palette


_PALETTE = voc_palette().tobytes()


def mask_png(classes: UInt8[np.ndarray, "h w"], mode: str) -> bytes:
    """Encodes classes as a PNG file of their own size.

    Args:
      classes: 0 is background.
      mode: 'parsing' keeps the classes, under the VOC palette; 'silhouette' writes grey, 255 where
        the class is not background.
    """
    if mode == "parsing":
        image = Image.fromarray(np.ascontiguousarray(classes), "P")
        image.putpalette(_PALETTE)
    else:
        image = Image.fromarray(np.where(classes != 0, np.uint8(255), np.uint8(0)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
