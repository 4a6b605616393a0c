"""A picture of a prepared data set for a person to look at: images beside masks and faces."""

import io

import numpy as np
from PIL import Image, ImageDraw

from sicl_jax.data.pixels import grey_mask
from sicl_jax.data.store import Store

_HEIGHT, _WIDTH = 128, 64
_IMAGES_PER_ROW = 10
_ROWS = 2
_CAPTION = 14
_GAP = 4
_PAPER = (255, 255, 255)
_INK = (0, 0, 0)


def draw(store: Store) -> Image.Image:
    """Draws images of every split, evenly spread, each with its mask and face to the right of it.

    Masks are shown as the silhouettes that they are read as, so that a wrong background label is
    seen at once.
    """
    card = store.metadata.get("card", {})
    cells = 3 if any(counts.get("faces") for counts in card.values()) else 2
    strips = [_strip(store, split, cells) for split in store.examples]
    width = max(strip.width for strip in strips)
    sheet = Image.new("RGB", (width, sum(strip.height for strip in strips)), _PAPER)
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def _strip(store: Store, split: str, cells: int) -> Image.Image:
    count = store.examples[split]
    rows = np.unique(np.linspace(0, count - 1, _IMAGES_PER_ROW * _ROWS).astype(int))
    lines = -(-len(rows) // _IMAGES_PER_ROW)
    size = (
        _IMAGES_PER_ROW * (cells * _WIDTH + _GAP),
        _CAPTION + lines * (_HEIGHT + _GAP),
    )
    strip = Image.new("RGB", size, _PAPER)
    ImageDraw.Draw(strip).text((2, 0), f"{split}: {count:,} images", fill=_INK)
    for place, record in enumerate(store.read(split, rows.tolist())):
        line, column = divmod(place, _IMAGES_PER_ROW)
        corner = (column * (cells * _WIDTH + _GAP), _CAPTION + line * (_HEIGHT + _GAP))
        strip.paste(_row(record, cells), corner)
    return strip


def _row(record: dict, cells: int) -> Image.Image:
    row = Image.new("RGB", (cells * _WIDTH, _HEIGHT), _PAPER)
    with Image.open(io.BytesIO(record["image"])) as image:
        row.paste(_fitted(image.convert("RGB"), Image.Resampling.BICUBIC), (0, 0))
    if record["mask"] is not None:
        with Image.open(io.BytesIO(record["mask"])) as mask:
            silhouette = grey_mask(mask, "silhouette").convert("RGB")
            row.paste(_fitted(silhouette, Image.Resampling.NEAREST), (_WIDTH, 0))
    if record["face"] is not None:
        with Image.open(io.BytesIO(record["face"])) as face:
            row.paste(_fitted(face.convert("RGB"), Image.Resampling.BICUBIC), (2 * _WIDTH, 0))
    return row


def _fitted(picture: Image.Image, resample: Image.Resampling) -> Image.Image:
    scale = min(_WIDTH / picture.width, _HEIGHT / picture.height)
    size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
    return picture.resize(size, resample)
