"""Round numbers along an axis."""

import math


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
