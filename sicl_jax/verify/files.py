"""A golden file: inputs, what the published code computed from them, and verdicts on ours."""

import dataclasses
import functools
import os
import pathlib
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Self

import ml_collections
import numpy as np

from sicl_jax import config as configs
from sicl_jax.errors import UserError
from sicl_jax.verify.checks import (
    Arrays,
    Check,
    array_errors,
    partition_error,
    relative_error,
)

_CONTROLS = 3
# What a last bit decides once in ten times is missed by one search in a thousand.
_SEARCHED = 64
_FLOAT64_TOLERANCE = 1e-8


class Golden:
    """The arrays of a golden file, read when they are asked for.

    `golden[name]` is an input, in the type that is computed in, and `golden.expected(name)` what
    is to be compared with, as the file has it.

    Attributes:
        file: What verdicts call the file.
        dtype: What is computed in: float32, or float64.
        seed: Of inputs that are off by one last bit; None for those of the file.

    Args:
        path: The file.
        shown: What verdicts call it; its name if empty.
        float64: Whether to compute in float64.

    Raises:
        UserError: On reading, when the file is damaged or lacks the array.
    """

    def __init__(self, path: str | os.PathLike[str], *, shown: str = "", float64: bool = False):
        self._path = pathlib.Path(path)
        self.file = shown or self._path.name
        self.dtype = np.dtype(np.float64 if float64 else np.float32)
        self.seed: int | None = None
        try:
            self._archive = np.load(self._path)
        except Exception as error:  # NumPy and zipfile raise many kinds of errors.
            raise UserError(f"{self._path}: not a readable .npz file; copy it again") from error

    # ---- reading ---------------------------------------------------------------------------

    def __contains__(self, name: str) -> bool:
        return name in self._archive.files

    def expected(self, name: str) -> np.ndarray:
        """The array as the file has it."""
        if name not in self:
            raise UserError(f"{self._path}: lacks {name}; is it a file of the golden format?")
        try:
            return self._archive[name]
        except Exception as error:  # As above.
            raise UserError(f"{self._path}: {name} is damaged; copy the file again") from error

    def __getitem__(self, name: str) -> np.ndarray:
        array = self.expected(name)
        if array.dtype.kind != "f" or array.ndim == 0:
            return array
        return self.as_input(name, array)

    def as_input(self, name: str, array: np.ndarray) -> np.ndarray:
        """An array of floats that the file stands for without holding it, as an input.

        Args:
            name: What decides how `nudged` moves it; the weight's, where weights are drawn by name.
            array: Its numbers.
        """
        if self.seed is not None:
            array = _nudged(array.astype(self._precision), (self.seed, zlib.crc32(name.encode())))
        return array.astype(self.dtype)

    def with_prefix(self, prefix: str, *, but_not: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """Inputs by the rest of their names, but for those that begin with another prefix."""
        return {name.removeprefix(prefix): self[name] for name in self._names(prefix, but_not)}

    def drawn(
        self,
        draw: Callable[[str, tuple[int, ...]], np.ndarray],
        kind: str = "parameter",
        *,
        prefix: str = "",
    ) -> dict[str, np.ndarray]:
        """The weights that a list of names and shapes stands for, as inputs.

        Args:
            draw: Makes each of its name and shape.
            kind: The list: the arrays `KIND_names` and `KIND_shapes`.
            prefix: Put before the names.
        """
        names = (f"{prefix}{name}" for name in self.expected(f"{kind}_names"))
        shapes = (tuple(map(int, re.findall(r"\d+", str(s)))) for s in self[f"{kind}_shapes"])
        return {n: self.as_input(n, draw(n, s)) for n, s in zip(names, shapes, strict=True)}

    def fields(self, method: str, names: Mapping[str, str]) -> ml_collections.ConfigDict:
        """A method's default config with some fields as the file has them.

        Args:
            method: A key of `register.METHODS`.
            names: The file's numbers by dotted field.
        """
        config = configs.base(method)
        for field, name in names.items():
            value = self.expected(name).tolist()
            group, _, last = field.rpartition(".")
            of = config[group] if group else config
            of[last] = tuple(value) if isinstance(value, list) else type(of[last])(value)
        return config

    def beside(self, stem: str) -> Self:
        """Another file of the same folder, read in the same way.

        Raises:
            UserError: It is missing or damaged.
        """
        path = self._path.with_name(f"{stem}.npz")
        if not path.is_file():
            raise UserError(f"{path}: missing; {self._path.name} cannot be recomputed without it")
        other = type(self)(path, float64=self.dtype == np.float64)
        other.seed = self.seed
        return other

    def nudged(self, seed: int) -> Self:
        """The same file with every input of floats off by one last bit, up or down at random."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, seed=seed)
        return other

    @property
    def flips(self) -> int:
        """Which ReLUs are flipped that rounding decides (`networks.Kinks`), as bits; else 0.

        Nudges of inputs mostly cancel in what a layer adds up, which float32 may round further than
        they reach: so every second of what is searched flips.
        """
        if self.seed is None or self.seed < _CONTROLS or self.seed % 2:
            return 0
        return (self.seed - _CONTROLS + 1) // 2

    def _names(self, prefix: str, but_not: Iterable[str]) -> list[str]:
        skipped = tuple(but_not)
        names = self._archive.files
        return [name for name in names if name.startswith(prefix) and not name.startswith(skipped)]

    @functools.cached_property
    def _double(self) -> bool:
        """Whether the published code computed in float64: all arrays of floats are."""
        arrays = map(self.expected, self._archive.files)
        return all(a.dtype == np.float64 for a in arrays if a.dtype.kind == "f" and a.ndim)

    @property
    def _precision(self) -> np.dtype:
        """The coarser of the types that the file and we compute in: whose last bit is in doubt."""
        return np.dtype(np.float64 if self._double and self.dtype == np.float64 else np.float32)

    # ---- verdicts --------------------------------------------------------------------------

    def check(self, quantity: str, actual, tolerance: float) -> Check:
        """Compares with the array of that name."""
        return self.verdict(quantity, relative_error(actual, self.expected(quantity)), tolerance)

    def check_partition(self, quantity: str, labels: np.ndarray) -> Check:
        """Compares labels with the array of that name as partitions, -1 as -1."""
        return self.verdict(quantity, partition_error(labels, self.expected(quantity)), 0.0)

    def check_controlled(
        self,
        compute: Callable[[Self], Arrays],
        tolerances: Mapping[str, float],
        *,
        errors: Callable[[Arrays, Arrays], Mapping[str, float]] = array_errors,
        direct: Collection[str] = (),
    ) -> Iterator[Check]:
        """Compares what rounding may move far: gradients, and the results of training steps.

        An optimiser amplifies rounding, so its results may differ by several times as much as
        controls, the same program on inputs off by one last bit, do. What no optimiser precedes is
        moved evenly, but where a ReLU's or a maximum's inputs are a rounding apart: there a
        gradient jumps, in some controls or in all but some. No jump makes a tolerance wider.
        Whatever is beyond what is allowed is searched for: it agrees if one of many controls is
        within the fixed tolerance of the file, which those of a wrong formula are not. Half of
        these flip ReLUs that are a rounding from 0, where `compute` knows how (`flips`).

        Args:
            compute: From the file to our numbers. It is called once more for every control, so
                what it compiles should be compiled outside it.
            tolerances: By quantity, for well-conditioned ones, in the order of the verdicts; 1e-8
                at most where both sides are computed in float64.
            errors: The errors by quantity of our numbers, measured against the file's or against
                those of a control.
            direct: Quantities that no optimiser precedes. Of their controls the least one counts,
                and where all agree as they are none is computed.
        """
        ours = compute(self)
        theirs = {name: self._theirs(name, ours) for name in ours}
        found = errors(ours, theirs)
        is_double = self._precision == np.float64
        if is_double:
            tolerances = {n: min(t, _FLOAT64_TOLERANCE) for n, t in tolerances.items()}
        is_settled = all(n in direct and found[n] <= t for n, t in tolerances.items())
        controls = [compute(self.nudged(seed)) for seed in range(0 if is_settled else _CONTROLS)]
        moves = [errors(control, ours) for control in controls]

        checks = {}
        for quantity, tolerance in tolerances.items():
            moved = [move[quantity] for move in moves] or [0.0]
            control = min(moved) if quantity in direct else max(moved)
            checks[quantity] = self.verdict(quantity, found[quantity], tolerance, control=control)
        # Two doubles that are a rounding apart are too rare to be searched for.
        for seed in range(0 if is_double else _SEARCHED):
            beyond = [q for q, check in checks.items() if not check.ok and np.isfinite(check.error)]
            if not beyond:
                break
            control = controls[seed] if seed < len(controls) else compute(self.nudged(seed))
            apart = errors(control, theirs)
            for quantity in beyond:
                nearest = min(checks[quantity].nearest, float(apart[quantity]))
                checks[quantity] = dataclasses.replace(checks[quantity], nearest=nearest)
        yield from checks.values()

    def verdict(
        self, quantity: str, error: float, tolerance: float, *, control: float = 0.0
    ) -> Check:
        """A verdict on an error computed elsewhere."""
        return Check(self.file, quantity, float(error), tolerance, float(control))

    def _theirs(self, name: str, ours: Arrays):
        if not isinstance(ours[name], Mapping):
            return self.expected(name)
        return {rest: self.expected(name.removesuffix("*") + rest) for rest in ours[name]}


def _nudged(array: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
    """Every number but 0 moved to a neighbouring one."""
    up = np.random.default_rng(seed).random(array.shape) < 0.5
    towards = np.where(up, np.inf, -np.inf).astype(array.dtype)
    return np.where(array == 0, array, np.nextafter(array, towards))
