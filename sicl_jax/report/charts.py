"""Charts as SVG: curves told apart by colour and by dashes, their values as a table; a heat map.

`script.js` adds a cursor that shows the values at one place, by pointer or by arrow keys.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence

from sicl_jax.report.document import element, table, text

_WIDTH, _HEIGHT = 420, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 34
MOST_CURVES = 8
_X_NAME = "epoch"

Points = list[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Curve:
    """A named curve.

    Attributes:
        name: In the legend.
        points: (x, y), by growing x.
    """

    name: str
    points: Points


def line_chart(
    title: str,
    curves: Sequence[Curve],
    *,
    zero: bool = True,
    top: float | None = None,
    words: Callable[[float], str] = lambda value: f"{value:.4g}",
) -> str:
    """A figure with curves over epochs, legend and table of values; nothing if all are empty.

    Args:
        title: What is drawn.
        curves: At most eight.
        zero: Whether the y axis starts at 0.
        top: Upper end of the y axis; by the values if None.
        words: A value in words, for ticks and tables.
    """
    curves = [curve for curve in curves if curve.points][:MOST_CURVES]
    if not curves:
        return ""
    xs = sorted({x for curve in curves for x, _ in curve.points})
    low, high = bounds([y for curve in curves for _, y in curve.points], zero=zero, top=top)
    scale = _Scale(xs[0], xs[-1], low, high)
    drawn = [_curve(curve, number, scale) for number, curve in enumerate(curves)]
    cursor = f'<line class="cursor" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" x1="0" x2="0"/>'
    svg = element(
        "svg",
        _axes(scale, words),
        *drawn,
        cursor,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        tabindex=0,
        aria_label=_described(title, curves, words),
        data_chart=json.dumps(_columns(curves, xs, scale, words)),
    )
    values = element(
        "details",
        element("summary", "values"),
        table(
            [_X_NAME, *(text(curve.name) for curve in curves)],
            [_row(x, curves, words) for x in xs],
        ),
    )
    legend = _legend(curves) if len(curves) > 1 else ""
    tip = element("div", class_="tip", aria_hidden="true")
    caption = element("figcaption", text(title))
    return element("figure", caption, svg, legend, tip, values, class_="chart")


# Of a heat map: the colours of the least and the greatest value, sizes in the drawing's units.
_PALE, _DARK = (239, 245, 252), (8, 62, 124)
_CELL_WIDTH, _CELL_HEIGHT, _LETTER = 96, 40, 7.5
_LONGEST = 42


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    words: Callable[[float], str] = lambda value: f"{value:.4g}",
) -> str:
    """A table drawn as coloured cells, an SVG that stands alone; None is an empty cell.

    Args:
        title: What is drawn.
        rows: Names of the rows; of long ones the end is shown.
        columns: Names of the columns, likewise.
        values: From 0 to 1, a list for each row.
        words: A value in words.
    """
    left = 16 + _LETTER * min(_LONGEST, max(map(len, rows), default=0))
    top = 16 + 0.7 * _LETTER * min(_LONGEST, max(map(len, columns), default=0))
    # Names of columns are turned, so the last one reaches beyond its cell.
    width, height = left + _CELL_WIDTH * len(columns) + top, top + _CELL_HEIGHT * len(rows) + 4
    parts = [element("title", text(title))]
    for number, name in enumerate(columns):
        x = left + _CELL_WIDTH * (number + 0.5)
        parts.append(
            f'<text transform="translate({x:.1f} {top - 8:.1f}) rotate(-45)" '
            f'fill="currentColor">{text(_end(name))}</text>'
        )
    for line, (name, cells) in enumerate(zip(rows, values, strict=True)):
        y = top + _CELL_HEIGHT * line
        parts.append(
            f'<text x="{left - 8:.1f}" y="{y + 25:.1f}" text-anchor="end" '
            f'fill="currentColor">{text(_end(name))}</text>'
        )
        for number, value in enumerate(cells):
            if value is not None:
                parts.append(_heat(left + _CELL_WIDTH * number, y, value, words(value)))
    return element(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        role="img",
        aria_label=title,
        font_family="system-ui, sans-serif",
        font_size=14,
    )


def _end(name: str) -> str:
    return name if len(name) <= _LONGEST else "…" + name[1 - _LONGEST :]


def _heat(x: float, y: float, value: float, words: str) -> str:
    share = min(max(value, 0.0), 1.0)
    color = [round(a + share * (b - a)) for a, b in zip(_PALE, _DARK, strict=True)]
    ink = "#fff" if share > 0.45 else "#1c1f24"
    return (
        f'<rect x="{x + 1:.1f}" y="{y + 1:.1f}" width="{_CELL_WIDTH - 2}" '
        f'height="{_CELL_HEIGHT - 2}" rx="3" fill="rgb({", ".join(map(str, color))})"/>'
        f'<text x="{x + _CELL_WIDTH / 2:.1f}" y="{y + 25:.1f}" text-anchor="middle" '
        f'fill="{ink}">{text(words)}</text>'
    )


@dataclasses.dataclass(frozen=True)
class _Scale:
    """From values to places in the drawing."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        share = (
            (value - self.x_low) / (self.x_high - self.x_low) if self.x_high > self.x_low else 0.5
        )
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def _axes(scale: _Scale, words) -> str:
    right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [f'<text class="tick" x="2" y="{floor + 18}">{_X_NAME}</text>']
    for value in ticks(scale.y_low, scale.y_high):
        y = scale.y(value)
        parts.append(f'<path class="axis" d="M{_LEFT} {y}H{right}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">'
            f"{text(words(value))}</text>"
        )
    for value in ticks(scale.x_low, scale.x_high, 7):
        if value == int(value):
            parts.append(
                f'<text class="tick" x="{scale.x(value)}" y="{floor + 18}" text-anchor="middle">'
                f"{int(value)}</text>"
            )
    return "".join(parts)


def _curve(curve: Curve, number: int, scale: _Scale) -> str:
    places = [(scale.x(x), scale.y(y)) for x, y in curve.points]
    path = "M" + "L".join(f"{x} {y}" for x, y in places)
    parts = [f'<path class="curve s{number}" d="{path}"/>']
    if len(places) <= 25:
        parts += [f'<circle class="dot f{number}" cx="{x}" cy="{y}" r="3"/>' for x, y in places]
    return "".join(parts)


def _legend(curves: Sequence[Curve]) -> str:
    items = [
        element(
            "li",
            '<svg viewBox="0 0 26 12" aria-hidden="true">'
            f'<path class="curve s{n}" d="M1 6H25"/></svg>',
            text(curve.name),
        )
        for n, curve in enumerate(curves)
    ]
    return element("ul", *items, class_="legend")


def _columns(curves, xs, scale: _Scale, words) -> dict:
    """What the cursor shows at each x."""
    columns = []
    for x in xs:
        values = [
            f"{curve.name}: {words(dict(curve.points)[x])}"
            for curve in curves
            if x in dict(curve.points)
        ]
        columns.append({"x": f"{x:g}", "px": scale.x(x), "values": values})
    return {"x": _X_NAME, "columns": columns}


def _row(x: float, curves, words) -> list[str]:
    values = [dict(curve.points).get(x) for curve in curves]
    return [f"{x:g}", *("" if value is None else text(words(value)) for value in values)]


def _described(title: str, curves, words) -> str:
    """The chart in a sentence: where each curve starts and ends."""
    parts = [
        f"{curve.name} from {words(curve.points[0][1])} to {words(curve.points[-1][1])}"
        for curve in curves
    ]
    return f"{title}: {'; '.join(parts)}"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers, at most `most`, that span `low` to `high` or lie within."""
    if not high > low:
        return [low]
    step = _round_up((high - low) / (most - 1))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def bounds(values: list[float], *, zero: bool = True, top: float | None = None) -> tuple:
    """Lower and upper end of an axis for these values.

    Args:
        values: What is drawn.
        zero: Whether the axis starts at 0 if no value is below.
        top: Its upper end, if that is given.
    """
    low, high = min(values), max(values)
    if zero and low >= 0:
        low = 0.0
    if top is not None:
        return low, top
    if high <= low:
        return low, low + (abs(low) or 1.0)
    room = 0.06 * (high - low)
    return low - (room if low else 0), high + room


def _round_up(step: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(step))
    return next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= step * (1 - 1e-9))
