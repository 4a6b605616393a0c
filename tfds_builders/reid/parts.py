"""Part labels: which parser's a mask holds, and which parts are clothes."""

import io

import numpy as np
from PIL import Image, PngImagePlugin

_KEY = "parts"

PARTS = {
    "lip": (
        "background", "hat", "hair", "glove", "sunglasses", "upper clothes", "dress", "coat",
        "socks", "trousers", "jumpsuit", "scarf", "skirt", "face", "left arm", "right arm",
        "left leg", "right leg", "left shoe", "right shoe",
    ),
    "atr": (
        "background", "hat", "hair", "sunglasses", "upper clothes", "skirt", "trousers", "dress",
        "belt", "left shoe", "right shoe", "face", "left leg", "right leg", "left arm",
        "right arm", "bag", "scarf",
    ),
    "pascal": (
        "background", "head", "torso", "upper arms", "lower arms", "upper legs", "lower legs",
    ),
}  # fmt: skip
"""Names of the labels of the three sets that SCHP was trained on, in their order."""

_KEPT = {
    "background", "hair", "sunglasses", "face", "left arm", "right arm", "left leg", "right leg",
    "head", "lower arms",
}  # fmt: skip
"""Parts that are no clothes. Pascal's parts do not tell skin from cloth: of them, those that are
bare as a rule."""


def voc_palette(num_colors: int = 256) -> np.ndarray:
    """Returns the PASCAL VOC palette, (n, 3) uint8 RGB.

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


def encode_parts(labels: np.ndarray, kind: str) -> bytes:
    """Encodes part labels as a palette PNG that says whose labels they are.

    Args:
        labels: (H, W) uint8; 0 is background.
        kind: A key of `PARTS`.
    """
    mask = Image.fromarray(np.ascontiguousarray(labels), "P")
    mask.putpalette(_PALETTE)
    mask.info[_KEY] = kind
    buffer = io.BytesIO()
    mask.save(buffer, "PNG", pnginfo=noted_kind(mask))
    return buffer.getvalue()


def kind_of(mask: Image.Image) -> str | None:
    """Returns whose labels a mask's are, a key of `PARTS`; None if it does not say so."""
    kind = mask.info.get(_KEY)
    return kind if isinstance(kind, str) and kind in PARTS else None


def noted_kind(mask: Image.Image) -> PngImagePlugin.PngInfo | None:
    """Returns the note of a mask's kind to be saved with it."""
    if kind_of(mask) is None:
        return None
    note = PngImagePlugin.PngInfo()
    note.add_text(_KEY, kind_of(mask))
    return note


def not_clothes(kind: str) -> np.ndarray:
    """Returns a table by label, (256,) uint8: 255 where a part is no clothes, 0 where it is."""
    table = np.zeros(256, np.uint8)
    for label, part in enumerate(PARTS[kind]):
        table[label] = 255 * (part in _KEPT)
    return table
