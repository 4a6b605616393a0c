"""Where a run's figures go: `metrics.jsonl` and TensorBoard events."""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import tensorboardX

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """Appends one JSON object a line, and the same numbers to TensorBoard.

    Args:
        workdir: The run's folder.
        keep_bytes: How much of an earlier `metrics.jsonl` is still true; the rest was written
            after the checkpoint that the run goes on from, and will be written again.
    """

    def __init__(self, workdir: pathlib.Path, keep_bytes: int = 0):
        self._file = (workdir / METRICS_FILE).open("ab")
        self._file.truncate(min(keep_bytes, self._file.tell()))
        self._file.seek(0, os.SEEK_END)
        self._board = tensorboardX.SummaryWriter(str(workdir / "tensorboard"), flush_secs=30)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Writes a line of `kind` ('start', 'train', 'epoch' or 'test') after `step` steps."""
        line = {"kind": kind, "step": step, **values}
        self._file.write(json.dumps(line, allow_nan=False, default=float).encode() + b"\n")
        self._file.flush()
        for name, value in _scalars(values):
            self._board.add_scalar(f"{kind}/{name}", value, step)

    @property
    def length(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def close(self) -> None:
        """Flushes and closes both."""
        self._file.close()
        self._board.close()


def _scalars(values: Mapping[str, Any], prefix: str = ""):
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and math.isfinite(value):
            yield f"{prefix}{name}", value
