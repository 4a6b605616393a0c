"""Where a run is, in memory and on disk.

At any time `state`, `step` and `progress` together are a point that the run can go on from: a
checkpoint is these three, and going on from it writes the same `metrics.jsonl` again.
"""

import dataclasses
import pathlib
import signal
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sicl_jax import processes
from sicl_jax.data.dataset import Split
from sicl_jax.errors import StoppedError, UserError
from sicl_jax.methods import source
from sicl_jax.methods.base import Method
from sicl_jax.methods.state import Clock
from sicl_jax.runs import workdir
from sicl_jax.runs.checkpoints import Checkpoints, Progress
from sicl_jax.runs.metrics import MetricsLog, SilentLog
from sicl_jax.training import numbers, signals


class Position:
    """The position of a run; its newest checkpoint's at first, or a new state's.

    Use as a context manager, to release the files.

    Attributes:
        method: The method, of the sizes that the data decided.
        state: The method's state.
        step: Optimiser steps done.
        progress: Where that is in the run.
        is_new: Whether the run has just begun.
        log: The run's figures.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        method: Method,
        data: Split,
        fingerprint: str,
        stop: signals.StopRequest,
        say: Callable[[str], None],
    ):
        self._folder = folder
        self._fingerprint = fingerprint
        self._stop = stop
        self._say = say
        self._checkpoints = Checkpoints(folder)
        try:
            self._start(method, data)
            self.is_new = self.progress.metrics_bytes == 0
            log = MetricsLog if processes.is_first() else SilentLog
            self.log = log(folder, self.progress.metrics_bytes, self.step)
        except BaseException:
            self._checkpoints.close()
            raise

    def _start(self, method: Method, data: Split) -> None:
        self._data = data

        def abstract_state(progress: Progress):
            return source.abstract_state(method.sized(progress.sizes), data, progress.stage)

        found = self._checkpoints.restore(abstract_state, self._say)
        self._saved: Progress | None = found and found.progress
        self.method = method
        if found is None:
            self.step, self.progress, self.state = 0, Progress(), None
            self.begin_stage(0)
            return
        self.state, self.step, self.progress = found.state, found.step, found.progress
        self.method = method.sized(self.progress.sizes)
        epoch, within = self.progress.epoch, self.progress.step_in_epoch
        where = f"in epoch {epoch + 1}, after" if within else f"after epoch {epoch},"
        self._say(f"resumed {where} step {self.step}")
        if self.progress.best_step is None or found.has_best:
            return
        if self.progress.best_step == self.step:  # Killed when this one was to be written.
            self._checkpoints.save_best(self.step, self.state, self.progress)
        else:
            self._say(
                f"warning: the best checkpoint, of step {self.progress.best_step}, is lost; the "
                "next better one takes its place"
            )

    def begin_stage(self, stage: int) -> None:
        """The run has come to the beginning of a stage."""
        self.method = self.method.sized(self.method.measure(self._data, self.state))
        first = source.Source(self.method, self._data, self.method.config.seed)
        self.state = self.method.begin_stage(self.state, first, stage)
        changes: dict[str, Any] = {"stage": stage, "sizes": self.method.sizes}
        if self.method.stages[stage].anew:
            changes |= {"best": None, "best_step": None}
        self.progress = dataclasses.replace(self.progress, **changes)

    def set_clock(self, epoch: int, steps: int) -> None:
        """The run is in an epoch of so many steps.

        Args:
            epoch: Counted from 0 at its stage's beginning.
            steps: Of the whole epoch.
        """
        first, stage = self.step - self.progress.step_in_epoch, self.progress.stage
        phase = self.method.stages[stage].phase(epoch)
        clock = Clock.at(self.step, epoch, steps, stage, phase, first_step=first)
        self.state = dataclasses.replace(self.state, clock=clock)

    def __enter__(self) -> "Position":
        return self

    def __exit__(self, *_) -> None:
        self._checkpoints.close()
        self.log.close()

    def advance(self, **changes: Any) -> None:
        """The run has come to here: what has been logged so far is true.

        Args:
            **changes: Fields of `progress`.
        """
        self.progress = dataclasses.replace(self.progress, metrics_bytes=self.log.length, **changes)

    def extend(self, line: Mapping[str, Any]) -> None:
        """A finished run goes on with another config: logs so, and makes the folder that one's.

        Args:
            line: For the log; what changed is under `changes`.
        """
        self.log.write("extend", self.step, line)
        self.advance()
        self.save()
        self.wait()  # Were the config written first, a run killed here would lose the line.
        self._claim()

    def save(self) -> None:
        """Starts to write the latest checkpoint; the first one makes the folder this run's.

        Raises:
            UserError: Weights are not finite, or the disk is full.
        """
        if bad := numbers.weights_not_finite(self.state):
            self.abandon(self.step, bad[:3])
        if self._saved is None:
            self._claim()
        self.log.sync()
        self._checkpoints.save(self.step, self.state, self.progress)
        self._saved = self.progress

    def _claim(self) -> None:
        config, fingerprint = self.method.config, self._fingerprint
        processes.on_first(lambda: workdir.claim(self._folder, config, fingerprint))

    def save_best(self) -> None:
        """Starts to write the best checkpoint; call `save` first."""
        self._checkpoints.save_best(self.step, self.state, self.progress)

    def wait(self) -> None:
        """Returns when the checkpoints are on disk."""
        self._checkpoints.wait()

    def stop_if_asked(self) -> None:
        """Saves and leaves if a signal has come.

        Raises:
            StoppedError: It has.
        """
        number = self._stop.number()
        if not number:
            return
        # All save or none: their logs, and so their progress, are not alike.
        has_changed = np.array(self.progress != self._saved)
        if processes.on_first(lambda: has_changed, like=has_changed):
            self.save()
        self.wait()
        raise StoppedError(
            number,
            f"stopped by {signal.Signals(number).name} in epoch {self.progress.epoch + 1}, after "
            f"step {self.step}; run the same command to go on",
        )

    def abandon(self, step: int, names: list[str]) -> None:
        """Ends a run whose numbers are no longer finite; keeps its state to be looked at.

        Args:
            step: When it happened.
            names: What is not finite.

        Raises:
            UserError: Always.
        """
        self.wait()
        folder = self._checkpoints.save_failed(self.step, self.state, self.progress)
        raise UserError(
            f"step {step}: {', '.join(names)} not finite; the state after step {self.step} is in "
            f"{folder}; run again with --debug_nans to find the operation, or train anew with a "
            "lower --config.optimizer.learning_rate"
        )
