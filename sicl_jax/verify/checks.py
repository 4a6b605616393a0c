"""A verdict on one quantity, and the errors that verdicts are made of."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np

from sicl_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Check:
    """One quantity, recomputed and compared.

    Attributes:
        file: Name of the golden file.
        quantity: Its name in the file; a star stands for several arrays, the worst of which counts.
        error: The largest relative error, `relative_error` unless it is one of labels.
        tolerance: What it may be.
    """

    file: str
    quantity: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the error is within the tolerance; NaN never is."""
        return self.error <= self.tolerance


class Golden:
    """The arrays of a golden file, read when they are asked for.

    Raises:
        UserError: On reading, when the file is damaged or lacks the array.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._path = pathlib.Path(path)
        self.file = self._path.name
        try:
            self._archive = np.load(self._path)
        except Exception as error:  # NumPy and zipfile raise many kinds of errors.
            raise UserError(f"{self._path}: not a readable .npz file; copy it again") from error

    def __contains__(self, name: str) -> bool:
        return name in self._archive.files

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self:
            raise UserError(f"{self._path}: lacks {name}; is it a file of the golden format?")
        try:
            return self._archive[name]
        except Exception as error:  # As above.
            raise UserError(f"{self._path}: {name} is damaged; copy the file again") from error

    def with_prefix(self, prefix: str, *, but_not: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """Arrays by the rest of their names, but for those that begin with another prefix."""
        return {
            name.removeprefix(prefix): self[name]
            for name in self._archive.files
            if name.startswith(prefix) and not name.startswith(tuple(but_not))
        }

    def check(self, quantity: str, actual, tolerance: float) -> Check:
        """Compares with the array of that name."""
        return self.verdict(quantity, relative_error(actual, self[quantity]), tolerance)

    def check_partition(self, quantity: str, labels: np.ndarray) -> Check:
        """Compares labels with the array of that name as partitions, -1 as -1."""
        return self.verdict(quantity, partition_error(labels, self[quantity]), 0.0)

    def verdict(self, quantity: str, error: float, tolerance: float) -> Check:
        """A verdict on an error computed elsewhere."""
        return Check(self.file, quantity, float(error), tolerance)


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
