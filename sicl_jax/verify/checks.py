"""A verdict on one quantity, and the errors that verdicts are made of."""

import dataclasses
from collections.abc import Mapping

import numpy as np

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
        control: What the error is of the same program on inputs that are off by one last bit;
            0 where that was not measured.
    """

    file: str
    quantity: str
    error: float
    tolerance: float
    control: float = 0.0

    @property
    def allowed(self) -> float:
        """What the error may be: a control that is not finite allows nothing more."""
        measured = CONTROL_FACTOR * self.control
        return max(self.tolerance, measured if np.isfinite(measured) else 0.0)

    @property
    def ill_conditioned(self) -> bool:
        """Whether rounding alone may move the quantity by more than the tolerance."""
        return self.allowed > self.tolerance

    @property
    def ok(self) -> bool:
        """Whether the error is within what is allowed; NaN never is."""
        return self.error <= self.allowed


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
    actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], *, floor: float
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
