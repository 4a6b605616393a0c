"""A verdict on one quantity, and the errors that verdicts are made of."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, Any]
"""Arrays by the names that they have in the file; under `prefix_*` a mapping of the several arrays
that it stands for, by the rest of their names."""

CONTROL_FACTOR = 5.0
"""How many times what a control measures two programs may differ by: they round everywhere, the
control's inputs once."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One quantity, recomputed and compared.

    Attributes:
        file: The golden file.
        quantity: Its name in the file; a star stands for several arrays, the worst of which counts.
        error: The largest relative error, `relative_error` unless it is one of labels.
        tolerance: What it may be where the quantity is well-conditioned.
        control: How far the same program comes from ours on inputs that are off by one last bit;
            0 where that was not measured.
        nearest: The error of that one of many such controls that comes nearest to the file;
            infinite where ours is within what is allowed, so that none was asked for.
    """

    file: str
    quantity: str
    error: float
    tolerance: float
    control: float = 0.0
    nearest: float = np.inf

    @property
    def decided_by_rounding(self) -> bool:
        """Whether ours differs, and inputs off by one last bit give what the file has.

        So it is where a ReLU's input is 0 but for rounding: its gradient is one or another, and
        nothing in between.
        """
        differs = not self.error <= self.allowed
        return bool(differs and np.isfinite(self.error) and self.nearest <= self.tolerance)

    @property
    def allowed(self) -> float:
        """What the error may be: a control that is not finite allows nothing more."""
        measured = CONTROL_FACTOR * self.control
        return max(self.tolerance, measured if np.isfinite(measured) else 0.0)

    @property
    def ill_conditioned(self) -> bool:
        """Whether rounding alone may move the quantity by more than the tolerance."""
        return self.allowed > self.tolerance or self.decided_by_rounding

    @property
    def ok(self) -> bool:
        """Whether the error is within what is allowed, or decided by rounding; NaN never is."""
        return self.error <= self.allowed or self.decided_by_rounding


def relative_error(actual, expected, *, least: float = 0.0) -> float:
    """Largest difference over the largest expected magnitude; infinite when shapes differ.

    Args:
        actual: Numbers.
        expected: What they should be.
        least: The magnitude that counts where the largest is smaller.
    """
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if actual.shape != expected.shape:
        return np.inf
    if not expected.size:
        return 0.0
    largest = max(np.abs(expected).max(), least)
    difference = np.abs(actual - expected).max()
    return difference / largest if largest else difference


def group_error(
    actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], *, floor: float = 1e-2
) -> float:
    """The largest relative error of several arrays.

    Args:
        actual: Arrays by name, those of `expected` at least.
        expected: What they should be.
        floor: Arrays smaller than this share of the largest one are measured as if they were as
            large as that: some, such as gradients of a bias that a batch norm takes out again,
            are nothing but rounding.
    """
    largest = max(np.abs(array).max(initial=0.0) for array in expected.values())
    errors = [
        relative_error(actual[name], array, least=floor * largest)
        for name, array in expected.items()
    ]
    return max(errors)


def array_errors(
    actual: Arrays,
    expected: Arrays,
    *,
    begun: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> dict[str, float]:
    """Errors by quantity: `group_error` of mappings, `relative_error` of arrays.

    Where a name speaks of statistics each row is the mean, deviation and norm of an array that the
    file does not hold: these are a group; a row of NaN stands for an array that there is not.

    Args:
        actual: Numbers.
        expected: What they should be.
        begun: What weights began as, for quantities `NAME less ...`: the error of how far they
            moved from there. A few steps move a weight by a thousandth, so the weights alone would
            agree without any. Names that are left out do not count.

    Returns:
        Beside these errors, under `NAME of the first step` those of the arrays' first rows.
    """
    errors = {}
    for name, array in expected.items():
        ours = actual[name]
        if "_stat" in name:
            errors[name] = _rows_error(np.asarray(ours), array)
        elif isinstance(array, Mapping):
            errors[name] = group_error(ours, array)
        else:
            errors[name] = relative_error(ours, array)
            if np.ndim(ours) and np.ndim(array):
                errors[f"{name} of the first step"] = relative_error(ours[:1], array[:1])
    for quantity, first in (begun or {}).items():
        name = quantity.partition(" less ")[0]
        moves = (
            {n: arrays[name][n] - first[n] for n in expected[name] if n in first}
            for arrays in (actual, expected)
        )
        errors[quantity] = norm_error(*moves)
    return errors


def _rows_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """`group_error` of rows; those of NaN have to be the same."""
    known = ~np.isnan(expected)
    if not np.array_equal(known, ~np.isnan(actual)):
        return np.inf
    rows = np.flatnonzero(known.all(axis=1))
    return group_error({i: actual[i] for i in rows}, {i: expected[i] for i in rows})


def statistics(arrays: Mapping[str, np.ndarray], names: Iterable[str]) -> np.ndarray:
    """(N, 3), mean, deviation and norm of the arrays of these names; NaN where there is none."""
    found = (np.asarray(arrays.get(str(name), ()), np.float64) for name in names)
    return np.stack(
        [(a.mean(), a.std(), np.linalg.norm(a)) if a.size else (np.nan,) * 3 for a in found]
    )


def norm_error(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> float:
    """Norm of the difference of several arrays over the norm of what they should be."""
    difference = sum(
        np.sum(np.square(np.asarray(actual[name], np.float64) - expected[name]))
        for name in expected
    )
    size = sum(np.sum(np.square(np.asarray(a, np.float64))) for a in expected.values())
    return float(np.sqrt(difference / size)) if size else float(np.sqrt(difference))


def partition_error(labels: np.ndarray, expected: np.ndarray) -> float:
    """How far two partitions are apart, in clusters split or merged; 0 when they are the same.

    Label numbers are arbitrary but for -1, unclustered, which must be the same samples.
    """
    labels, expected = np.asarray(labels), np.asarray(expected)
    if labels.shape != expected.shape:
        return np.inf
    meetings = len(np.unique(np.stack([labels, expected]), axis=1).T)
    apart = 2 * meetings - len(np.unique(labels)) - len(np.unique(expected))
    return apart + np.count_nonzero((labels == -1) != (expected == -1))
