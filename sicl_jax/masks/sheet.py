"""A contact sheet: the worst masks beside their images, for a person to look at."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sicl_jax.errors import UserError
from sicl_jax.masks.quality import MaskSigns, QualityReport, person_pixels
from tfds_builders.reid.tree import IMAGE_SUFFIXES

_PICTURE = (96, 192)  # Width and height of an image or a mask, in pixels.
_CAPTION = 26
_GAP = 8
_COLUMNS = 6
_PAPER, _INK, _BLANK = (255, 255, 255), (20, 20, 20), (225, 225, 225)


def write_contact_sheet(
    report: QualityReport, path: Path, *, masks_dir: Path, images_dir: Path | None = None
) -> None:
    """Draws the report's worst masks, each with its name and what is wrong.

    Args:
        report: Of the masks of `masks_dir`, with one bad mask at least.
        path: Image file to write; its suffix tells the format.
        masks_dir: What the report's names are relative to.
        images_dir: Tree of the images with the same relative paths, or None to show masks alone.

    Raises:
        UserError: `path` cannot be written.
    """
    pictures = 1 if images_dir is None else 2
    cell = (pictures * _PICTURE[0] + _GAP, _PICTURE[1] + _CAPTION + _GAP)
    columns = min(_COLUMNS, len(report.worst))
    rows = -(-len(report.worst) // columns)
    sheet = Image.new("RGB", (columns * cell[0] + _GAP, rows * cell[1] + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, signs in enumerate(report.worst):
        left, top = _GAP + i % columns * cell[0], _GAP + i // columns * cell[1]
        for j, picture in enumerate(_pictures(signs, masks_dir, images_dir)):
            sheet.paste(_framed(picture), (left + j * _PICTURE[0], top))
        room = (cell[0] - _GAP) // 6  # Letters of the default font that fit.
        draw.text((left, top + _PICTURE[1] + 1), signs.name[-room:], fill=_INK)
        draw.text((left, top + _PICTURE[1] + 12), ", ".join(signs.complaints()), fill=_INK)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        sheet.save(temporary)
        temporary.replace(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be written: {error}") from error


def _pictures(signs: MaskSigns, masks_dir: Path, images_dir: Path | None):
    if images_dir is not None:
        yield _open_image(images_dir / signs.name)
    if signs.fault:
        yield None
        return
    with Image.open(masks_dir / signs.name) as mask:
        yield Image.fromarray(np.where(person_pixels(mask), np.uint8(255), np.uint8(0)))


def _open_image(path: Path) -> Image.Image | None:
    """Returns the image of a mask: the same path with any suffix of an image."""
    for suffix in sorted(IMAGE_SUFFIXES):
        candidate = path.with_suffix(suffix)
        if candidate.is_file():
            try:
                with Image.open(candidate) as image:
                    return image.convert("RGB")
            except OSError:
                return None
    return None


def _framed(picture: Image.Image | None) -> Image.Image:
    """Returns the picture fitted into its place, which is grey where the picture is not."""
    frame = Image.new("RGB", _PICTURE, _BLANK)
    if picture is not None:
        scale = min(_PICTURE[0] / picture.width, _PICTURE[1] / picture.height)
        size = [max(1, round(scale * side)) for side in picture.size]
        frame.paste(picture.convert("RGB").resize(size), (0, 0))
    return frame
