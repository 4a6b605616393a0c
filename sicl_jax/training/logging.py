"""Where a run's figures go: `metrics.jsonl` and TensorBoard events."""

import contextlib
import json
import math
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tensorboardX import event_file_writer, summary
from tensorboardX.proto import event_pb2

from sicl_jax.errors import UserError

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """Appends one JSON object a line, and the same numbers to TensorBoard.

    Args:
        workdir: The run's folder.
        keep_bytes: How much of an earlier `metrics.jsonl` is still true; the rest was written
            after the checkpoint that the run goes on from, and will be written again.
        step: Optimiser steps done; TensorBoard drops what an earlier process wrote for later ones.

    Raises:
        UserError: The files cannot be written, or `metrics.jsonl` has lost some of its lines.
    """

    def __init__(self, workdir: pathlib.Path, keep_bytes: int = 0, step: int = 0):
        self._folder = workdir
        with self._disk_errors():
            self._file = (workdir / METRICS_FILE).open("ab")
            if self._file.tell() < keep_bytes:
                raise UserError(
                    f"{workdir / METRICS_FILE}: {self._file.tell()} of {keep_bytes} bytes are left "
                    "of what was logged; restore it, or choose another --workdir"
                )
            self._file.truncate(keep_bytes)
            self._file.seek(0, os.SEEK_END)
            self._board = _Board(workdir / "tensorboard", step)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Writes a line of `kind` ('start', 'resume', 'epoch' or 'test') after `step` steps.

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
