"""Silhouettes beside their images, so that bad masks are seen."""

import numpy as np

from sicl_jax.data.dataset import Split
from sicl_jax.report.document import element, note, picture, section, text

_SHOWN = 12
_FADE = 0.25


def silhouettes_section(split: Split) -> str:
    """Some training images, evenly spread, each with its mask and with the rest faded."""
    rows = np.unique(np.linspace(0, len(split) - 1, _SHOWN).astype(int))
    words = note(
        "Image, silhouette as the model sees it, and the image with all else faded. Training "
        "learns body shape from these; a mask that misses the person teaches a wrong one."
    )
    figures = [_figure(split, row) for row in rows]
    return section("silhouettes", "Silhouettes", words, element("div", *figures, class_="masks"))


def _figure(split: Split, row: int) -> str:
    image, mask, name = (
        np.asarray(split.pixels["image"][row]),
        split.pixels["mask"][row],
        split.names[row],
    )
    share = np.asarray(mask, np.float32)[..., None] / 255
    cut_out = image * (_FADE + (1 - _FADE) * share) + 255 * (1 - _FADE) * (1 - share)
    pictures = [
        picture(image, f"image {name}"),
        picture(mask, f"silhouette of {name}"),
        picture(cut_out.astype(np.uint8), f"person of {name} as the silhouette cuts it out"),
    ]
    return element("figure", element("div", *pictures), element("figcaption", text(name)))
