"""What JSON from a file that anybody may have written has to look like before it is used.

A check is a function of a value; those here are put together to describe a file:

    ENTRY = record({"path": text(), "size": count()}, {"note": text()})
    if not ENTRY(json.loads(content)): ...
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]

_LARGEST = 1e300  # Sums of many such numbers are still finite.


def number(value: Any) -> bool:
    """Whether it is a finite number, true and false not being any."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < _LARGEST


def between(least: float, most: float) -> Check:
    """Numbers from `least` to `most`."""
    return lambda value: number(value) and least <= value <= most


def flag(value: Any) -> bool:
    """Whether it is true or false."""
    return isinstance(value, bool)


def count(least: int = 0, most: int = 2**63 - 1) -> Check:
    """Whole numbers from `least` to `most`."""
    return lambda value: type(value) is int and least <= value <= most


def text(pattern: str | None = None) -> Check:
    """Strings, all of which match a regular expression if one is given."""
    return lambda value: (
        isinstance(value, str) and (pattern is None or bool(re.fullmatch(pattern, value)))
    )


def maybe(check: Check) -> Check:
    """Null, or what fits another check."""
    return lambda value: value is None or check(value)


def table(check: Check) -> Check:
    """Objects all of whose values fit, whatever their names."""
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def sequence(*checks: Check) -> Check:
    """Arrays of as many items as there are checks, each fitting its own."""
    return lambda value: (
        isinstance(value, list)
        and len(value) == len(checks)
        and all(check(item) for check, item in zip(checks, value, strict=True))
    )


def array(check: Check) -> Check:
    """Arrays of any length whose items all fit."""
    return lambda value: isinstance(value, list) and all(map(check, value))


def record(
    required: Mapping[str, Check],
    optional: Mapping[str, Check] | None = None,
    *,
    others: bool = True,
) -> Check:
    """Objects whose named values fit.

    Args:
        required: Must be there.
        optional: May be there.
        others: Whether values of other names may be there too.
    """
    known = {**required, **(optional or {})}

    def fits(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and required.keys() <= value.keys()
            and (others or value.keys() <= known.keys())
            and all(check(value[name]) for name, check in known.items() if name in value)
        )

    return fits
