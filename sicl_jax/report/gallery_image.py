"""Ranked galleries as one picture: a query a line, its nearest gallery images to its right."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sicl_jax.data.dataset import Split
from sicl_jax.evaluation.galleries import RankedGalleries
from sicl_jax.report.marks import COLORS, Mark, marks

_WIDTH, _HEIGHT = 80, 160
_FRAME = 5
_GAP = 8
_MARGIN = 16
_LINE = 22
_QUERY_GAP = 20
_BADGE = 22
_SMOOTH = 4  # Badges are drawn so many times larger, then reduced.
_PAPER, _INK, _FAINT = "#FFFFFF", "#202020", "#8A8A8A"

_CELL = (_WIDTH + 2 * _FRAME + _GAP, _HEIGHT + 2 * _FRAME + _GAP)


def ranked_gallery_picture(
    query: Split,
    gallery: Split,
    ranked: RankedGalleries,
    chosen: Sequence[int],
    *,
    title: str = "",
    captions: Sequence[str] = (),
) -> Image.Image:
    """Draws the ranked galleries of some queries.

    Args:
        query: The split of the queries.
        gallery: The split of the gallery.
        ranked: Their ranked galleries (`evaluation.galleries.ranked_galleries`).
        chosen: (R,) rows of the queries, as given to `ranked_galleries`.
        title: Printed above.
        captions: One for each query, printed above its line.
    """
    table = marks(query, gallery, ranked, chosen)
    top = _ranks_line(len(ranked.rows[0]), title)
    line_height = _CELL[1] + (_LINE if captions else 0)
    legend = _legend([mark for line in table for mark in line if mark])
    width = max(top.width, legend.width)
    sheet = Image.new("RGB", (width, top.height + line_height * len(table) + legend.height), _PAPER)
    sheet.paste(top, (0, 0))
    for place, (q, line) in enumerate(zip(chosen, table, strict=True)):
        y = top.height + place * line_height
        if captions:
            _write(sheet, (_MARGIN, y), captions[place], _FAINT, 14)
            y += _LINE
        _paste(sheet, (_MARGIN, y), query.pixels["image"][q], _INK)
        for rank, mark in enumerate(line):
            if mark is not None:
                image = gallery.pixels["image"][ranked.rows[place, rank]]
                corner = (_column(rank), y)
                _paste(sheet, corner, image, COLORS[mark])
                sheet.paste(badge(mark), corner, badge(mark))
    sheet.paste(legend, (0, sheet.height - legend.height))
    return sheet


def badge(mark: Mark) -> Image.Image:
    """The sign of a mark: a disc with a tick (filled where the clothes changed) or a cross."""
    side = _BADGE * _SMOOTH
    picture = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(picture)
    filled = mark is not Mark.SAME_CLOTHES
    color = COLORS[mark]
    ink = "#FFFFFF" if filled else color
    draw.ellipse(
        (0, 0, side - 1, side - 1),
        fill=color if filled else "#FFFFFF",
        outline=color,
        width=side // 9,
    )
    for start, end in _STROKES[mark]:
        draw.line([(x * side, y * side) for x, y in (start, end)], fill=ink, width=side // 8)
    return picture.resize((_BADGE, _BADGE), Image.Resampling.LANCZOS)


_TICK = (((0.27, 0.52), (0.45, 0.70)), ((0.42, 0.70), (0.74, 0.32)))
_STROKES = {
    Mark.OTHER_CLOTHES: _TICK,
    Mark.SAME_CLOTHES: _TICK,
    Mark.SAME_PERSON: _TICK,
    Mark.OTHER_PERSON: (((0.32, 0.32), (0.68, 0.68)), ((0.32, 0.68), (0.68, 0.32))),
    Mark.UNKNOWN: (((0.3, 0.5), (0.7, 0.5)),),
}


def _ranks_line(top: int, title: str) -> Image.Image:
    """The title and the ranks above the columns."""
    height = _MARGIN + (_LINE + 8 if title else 0) + _LINE
    line = Image.new("RGB", (_column(top) - _GAP + _MARGIN, height), _PAPER)
    if title:
        _write(line, (_MARGIN, _MARGIN - 6), title, _INK, 18)
    middle = _FRAME + _WIDTH // 2
    _write(line, (_MARGIN + middle, height - _LINE), "query", _INK, 14, anchor="ma")
    for rank in range(top):
        _write(
            line, (_column(rank) + middle, height - _LINE), str(rank + 1), _FAINT, 14, anchor="ma"
        )
    return line


def _legend(shown: list[Mark]) -> Image.Image:
    kinds = [mark for mark in Mark if mark in shown]
    widths = [_BADGE + 8 + int(_font(14).getlength(mark.value)) + 28 for mark in kinds]
    line = Image.new("RGB", (sum(widths) + 2 * _MARGIN, _BADGE + _MARGIN + 4), _PAPER)
    x = _MARGIN
    for mark, width in zip(kinds, widths, strict=True):
        line.paste(badge(mark), (x, 4), badge(mark))
        _write(line, (x + _BADGE + 8, 4 + _BADGE // 2), mark.value, _INK, 14, anchor="lm")
        x += width
    return line


def _column(rank: int) -> int:
    return _MARGIN + _CELL[0] * (rank + 1) + _QUERY_GAP


def _paste(sheet: Image.Image, corner: tuple[int, int], image: np.ndarray, color: str) -> None:
    x, y = corner
    framed = Image.new("RGB", (_WIDTH + 2 * _FRAME, _HEIGHT + 2 * _FRAME), color)
    picture = Image.fromarray(np.asarray(image)).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
    framed.paste(picture, (_FRAME, _FRAME))
    sheet.paste(framed, (x, y))


def _write(sheet, place, text, color, size, anchor="la") -> None:
    ImageDraw.Draw(sheet).text(place, text, fill=color, font=_font(size), anchor=anchor)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
