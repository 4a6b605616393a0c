"""Line charts as SVG: curves told apart by colour and by dashes, values as a table below.

`script.js` adds a cursor that shows the values at one place, by pointer or by arrow keys.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence

from sicl_jax.report.document import element, table, text
from sicl_jax.report.ticks import bounds, ticks

_WIDTH, _HEIGHT = 420, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 34
MOST_CURVES = 8

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
    x_name: str = "epoch",
    zero: bool = True,
    top: float | None = None,
    words: Callable[[float], str] = lambda value: f"{value:.4g}",
) -> str:
    """A figure with curves, their legend and a table of their values; nothing if all are empty.

    Args:
        title: What is drawn.
        curves: At most eight.
        x_name: What x counts.
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
        _axes(scale, x_name, words),
        *drawn,
        cursor,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        tabindex=0,
        aria_label=_described(title, curves, words),
        data_chart=json.dumps(_columns(curves, xs, x_name, scale, words)),
    )
    values = element(
        "details",
        element("summary", "values"),
        table(
            [text(x_name), *(text(curve.name) for curve in curves)],
            [_row(x, curves, words) for x in xs],
        ),
    )
    legend = _legend(curves) if len(curves) > 1 else ""
    tip = element("div", class_="tip", aria_hidden="true")
    caption = element("figcaption", text(title))
    return element("figure", caption, svg, legend, tip, values, class_="chart")


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


def _axes(scale: _Scale, x_name: str, words) -> str:
    right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [f'<text class="tick" x="2" y="{floor + 18}">{text(x_name)}</text>']
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


def _columns(curves, xs, x_name, scale: _Scale, words) -> dict:
    """What the cursor shows at each x."""
    columns = []
    for x in xs:
        values = [
            f"{curve.name}: {words(dict(curve.points)[x])}"
            for curve in curves
            if x in dict(curve.points)
        ]
        columns.append({"x": f"{x:g}", "px": scale.x(x), "values": values})
    return {"x": x_name, "columns": columns}


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
