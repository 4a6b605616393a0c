"""A run's figures: `metrics.jsonl`, written and read, and TensorBoard events."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections
from tensorboardX import event_file_writer, summary
from tensorboardX.proto import event_pb2

from sicl_jax import methods, schema
from sicl_jax.errors import UserError
from sicl_jax.evaluation import selection_protocol
from sicl_jax.runs import workdir

METRICS_FILE = "metrics.jsonl"
Points = list[tuple[float, float]]


class MetricsLog:
    """Appends one JSON object a line, and the same numbers to TensorBoard.

    Args:
        workdir: The run's folder.
        keep_bytes: How much of an earlier `metrics.jsonl` is still true; the rest was written
            after the checkpoint that the run goes on from, and will be written again.
        step: Optimiser steps done; TensorBoard drops what an earlier process wrote for later ones.

    Raises:
        UserError: The files cannot be written, or `metrics.jsonl` has lost some of its lines or is
            damaged.
    """

    def __init__(self, workdir: pathlib.Path, keep_bytes: int = 0, step: int = 0):
        self._folder = workdir
        with self._disk_errors():
            self._file = (workdir / METRICS_FILE).open("ab+")
            if self._file.tell() < keep_bytes:
                raise UserError(
                    f"{workdir / METRICS_FILE}: {self._file.tell()} of {keep_bytes} bytes are left "
                    "of what was logged; restore it, or choose another --workdir"
                )
            self._file.truncate(keep_bytes)
            self._file.seek(max(keep_bytes - 1, 0))
            if keep_bytes and self._file.read() != b"\n":
                raise UserError(
                    f"{workdir / METRICS_FILE}: damaged; restore it, or choose another --workdir"
                )
            self._file.seek(0, os.SEEK_END)
            self._board = _Board(workdir / "tensorboard", step)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Writes a line after `step` steps.

        Args:
            kind: 'start', 'resume', 'extend', 'epoch' or 'test'.
            step: Optimiser steps done.
            values: By name.

        Raises:
            UserError: The disk is full, or otherwise refuses.
        """
        line = {"kind": kind, "step": step, **values}
        with self._disk_errors():
            self._file.write(json.dumps(line, allow_nan=False, default=float).encode() + b"\n")
            self._file.flush()
            self._board.write({f"{kind}/{name}": v for name, v in _scalars(values)}, step)

    @property
    def length(self) -> int:
        """Bytes of `metrics.jsonl` so far."""
        return self._file.tell()

    def sync(self) -> None:
        """Puts them on the disk itself."""
        with self._disk_errors():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes both files; what could not be written has been reported by then."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._board.close()

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self._folder}: cannot write metrics ({error.strerror or error}); make room "
                "there and run the same command to go on"
            ) from error


class SilentLog:
    """What the processes but the first have in place of a `MetricsLog`: it writes nothing."""

    length = 0

    def __init__(self, *_):
        pass

    def write(self, *_) -> None:
        """Nothing, as the other methods."""

    sync = close = write


class _Board:
    """TensorBoard events, written at once.

    tensorboardX's `SummaryWriter` writes from a thread; when the disk is full that thread dies
    and, its queue being full, the run then waits for it forever.
    """

    def __init__(self, folder: pathlib.Path, step: int):
        folder.mkdir(exist_ok=True)
        self._writer = event_file_writer.EventsWriter(str(folder / "events"), f".{os.getpid()}")
        if step:
            log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._event(step + 1, session_log=log)

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        for name, value in scalars.items():
            self._event(step, summary=summary.scalar(name, value))
        self._writer.flush()

    def _event(self, step: int, **content: Any) -> None:
        self._writer.write_event(event_pb2.Event(wall_time=time.time(), step=step, **content))

    def close(self) -> None:
        self._writer.close()


def _scalars(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and math.isfinite(value):
            yield f"{prefix}{name}", value


@dataclasses.dataclass(frozen=True, eq=False)
class RunLog:
    """A run's config and lines.

    Attributes:
        folder: The workdir.
        config: The experiment.
        start: The line of its start: versions, device, data; empty if there is none.
        epochs: A line for each epoch done.
        tests: A line for each test.
        extensions: A line for each time that more epochs were added to a finished run.
    """

    folder: pathlib.Path
    config: ml_collections.ConfigDict
    start: dict[str, Any]
    epochs: list[dict[str, Any]]
    tests: list[dict[str, Any]]
    extensions: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def epochs_done(self) -> int:
        """Epochs done so far."""
        return max((line["epoch"] for line in self.epochs), default=0)

    @property
    def epochs_in_all(self) -> int:
        """Epochs of the whole run, over all stages of its method."""
        return sum(stage.epochs for stage in methods.create(self.config).stages)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epochs_done >= self.epochs_in_all

    def best_test(self) -> tuple[str, dict[str, Any]] | None:
        """The protocol that chooses the best checkpoint, and the line of the best test.

        The test of the untrained network is not counted, unless there is no other.
        """
        names = self.protocols()
        if not names:
            return None
        asked = self.config.evaluate.select_by or None
        chooser = selection_protocol(self.config.data.name, names, asked)
        tests = [line for line in self.tests if chooser in line]
        tests = [line for line in tests if line["epoch"]] or tests
        return chooser, max(tests, key=lambda line: line[chooser]["mAP"])

    def made_worse(self) -> str:
        """In words, that no test of the trained network came up to that of the untrained one.

        Empty where one did, or where the untrained network was not tested.
        """
        found = self.best_test()
        if found is None or self.tests[0]["epoch"] or not found[1]["epoch"]:
            return ""
        chooser, best = found
        before, after = (line[chooser]["mAP"] for line in (self.tests[0], best))
        if after > before:
            return ""
        return (
            f"training made it worse: mAP of {chooser} was {before:.1%} before it and at best "
            f"{after:.1%}, after epoch {best['epoch']}; weights to start from "
            "(--config.model.pretrained), more epochs or another learning rate may help"
        )

    def curve(self, name: str) -> Points:
        """(epoch, value) of a figure of the epochs, where it was logged."""
        return _points(self.epochs, lambda line: line.get(name))

    def term_curve(self, name: str) -> Points:
        """(epoch, value) of a term of the loss."""
        return _points(self.epochs, lambda line: line.get("terms", {}).get(name))

    def figures(self) -> list[str]:
        """Names of all numbers of the epochs' lines."""
        names = {n: None for line in self.epochs for n, v in line.items() if schema.number(v)}
        return list(names)

    def terms(self) -> list[str]:
        """Names of the loss's terms."""
        return list({name: None for line in self.epochs for name in line.get("terms", {})})

    def test_curve(self, protocol: str, figure: str) -> Points:
        """(epoch, value) of a figure of the tests."""
        return _points(self.tests, lambda line: line.get(protocol, {}).get(figure))

    def protocols(self) -> list[str]:
        """Names of the protocols tested, in their order."""
        lines = self.tests[-1:] or [{}]
        return [name for name, value in lines[0].items() if isinstance(value, dict)]


def read_log(folder: pathlib.Path) -> RunLog:
    """Reads a run's log; the last line may be half written.

    Raises:
        UserError: There is no run, or a line within the log is damaged.
    """
    config = workdir.read_config(folder)
    lines = read_lines(folder)
    kinds = {kind: [line for line in lines if line["kind"] == kind] for kind in _KINDS}
    return RunLog(
        folder=folder,
        config=config,
        start=(kinds["start"] or [{}])[-1],
        epochs=kinds["epoch"],
        tests=kinds["test"],
        extensions=kinds["extend"],
    )


_KINDS = ("start", "epoch", "test", "extend")

_PLACE = schema.count(most=10**12)  # No run has so many epochs or steps.
_SECONDS = schema.between(0, 10**9)  # Thirty years.
_EPOCH = schema.record(
    {"epoch": _PLACE, "step": _PLACE},
    {
        "terms": schema.table(schema.number),
        "seconds_training": _SECONDS,
        "seconds_clustering": _SECONDS,
    },
)
_TEST = schema.record({"epoch": _PLACE, "step": _PLACE, "seconds": _SECONDS})
_EXTENSION = schema.record({"epoch": _PLACE, "changes": schema.text()})
_RESULT = schema.record({"mAP": schema.number, "rank1": schema.number})
_START = schema.record(
    {},
    dict.fromkeys(("images", "devices"), schema.number)
    | {
        name: schema.text()
        for name in ("device", "sicl_jax", "jax", "config", "dataset", "git_commit")
    },
)


def read_lines(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The whole lines of a run's `metrics.jsonl`; none where it has just begun.

    Raises:
        UserError: The file cannot be read, or a line but the last is damaged.
    """
    file = folder / METRICS_FILE
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
            is_line = _is_line(lines[-1])
        except (ValueError, RecursionError):
            is_line = False
        if not is_line:
            raise UserError(f"{file}: line {number} is damaged; restore the file")
    return lines


def _is_line(line: Any) -> bool:
    """Whether this may be a line, as far as a report uses it."""
    if not isinstance(line, dict) or not isinstance(line.get("kind"), str):
        return False
    if line["kind"] == "epoch":
        return _EPOCH(line)
    if line["kind"] == "extend":
        return _EXTENSION(line)
    if line["kind"] == "test":
        figures = {n: v for n, v in line.items() if n not in ("kind", "epoch", "step", "seconds")}
        return _TEST(line) and all(map(_RESULT, figures.values()))
    return _START(line)


def _points(lines, value) -> Points:
    """By epoch; where an epoch was run again after a restart, its last line counts."""
    found = {line["epoch"]: value(line) for line in lines}
    return [(epoch, found[epoch]) for epoch in sorted(found) if schema.number(found[epoch])]
