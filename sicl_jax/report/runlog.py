"""What a run has written so far: its lines, read as they are, finished or not."""

import dataclasses
import json
import pathlib
from typing import Any

import ml_collections

from sicl_jax.errors import UserError
from sicl_jax.training import workdir
from sicl_jax.training.logging import METRICS_FILE

Points = list[tuple[float, float]]


@dataclasses.dataclass(frozen=True, eq=False)
class RunLog:
    """A run's config and lines.

    Attributes:
        folder: The workdir.
        config: The experiment.
        start: The line of its start: versions, device, data; empty if there is none.
        epochs: A line for each epoch done.
        tests: A line for each test.
    """

    folder: pathlib.Path
    config: ml_collections.ConfigDict
    start: dict[str, Any]
    epochs: list[dict[str, Any]]
    tests: list[dict[str, Any]]

    @property
    def epochs_done(self) -> int:
        """Epochs done so far."""
        return max((line["epoch"] for line in self.epochs), default=0)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs of the config are done."""
        return self.epochs_done >= self.config.epochs

    def curve(self, name: str) -> Points:
        """(epoch, value) of a figure of the epochs, where it was logged."""
        return _points(self.epochs, lambda line: line.get(name))

    def test_curve(self, protocol: str, figure: str) -> Points:
        """(epoch, value) of a figure of the tests."""
        return _points(self.tests, lambda line: line.get(protocol, {}).get(figure))

    def protocols(self) -> list[str]:
        """Names of the protocols tested, in their order."""
        lines = self.tests[-1:] or [{}]
        return [name for name, value in lines[0].items() if isinstance(value, dict)]


def read(folder: pathlib.Path) -> RunLog:
    """Reads a run's log; the last line may be half written.

    Raises:
        UserError: There is no run, or a line within the log is damaged.
    """
    config = workdir.read_config(folder)
    lines = _lines(folder / METRICS_FILE)
    kinds = {kind: [line for line in lines if line["kind"] == kind] for kind in _KINDS}
    return RunLog(
        folder=folder,
        config=config,
        start=(kinds["start"] or [{}])[-1],
        epochs=kinds["epoch"],
        tests=kinds["test"],
    )


_KINDS = ("start", "epoch", "test")
_REQUIRED = {"epoch": ("epoch", "step"), "test": ("epoch", "step", "seconds")}
_NUMBERS = ("images", "devices", "seconds", "seconds_training", "seconds_clustering")
_WORDS = ("device", "sicl_jax", "jax", "config", "dataset", "git_commit")


def _lines(file: pathlib.Path) -> list[dict[str, Any]]:
    try:
        texts = file.read_bytes().split(b"\n")
    except FileNotFoundError:  # A run that has just begun.
        return []
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    lines = []
    for number, line in enumerate(texts[:-1], start=1):  # Behind the last newline: half a line.
        try:
            lines.append(json.loads(line))
            is_line = _is_line(**lines[-1])
        except (ValueError, TypeError, RecursionError):
            is_line = False
        if not is_line:
            raise UserError(f"{file}: line {number} is damaged; restore the file")
    return lines


def _is_line(*, kind: Any, **values: Any) -> bool:
    """Whether these may be a line's values, as far as a report uses them."""
    if not isinstance(kind, str):
        return False
    protocols = [value for value in values.values() if isinstance(value, dict)]
    if kind == "test" and len(protocols) < len(values.keys() - _REQUIRED[kind]):
        return False
    return (
        all(_is_number(values.get(name)) for name in _REQUIRED.get(kind, ()))
        and all(_is_number(values.get(name, 0)) for name in _NUMBERS)
        and all(isinstance(values.get(name, ""), str) for name in _WORDS)
        and all(_is_number(each.get(name)) for each in protocols for name in ("mAP", "rank1"))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e12


def _points(lines, value) -> Points:
    """By epoch; where an epoch was run again after a restart, its last line counts."""
    found = {line["epoch"]: value(line) for line in lines}
    return [(epoch, found[epoch]) for epoch in sorted(found) if _is_number(found[epoch])]
