"""Checkpoints of whole runs with orbax: the latest and the best, written in the background."""

import asyncio
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.path import atomicity

from sicl_jax import processes, schema
from sicl_jax.errors import UserError, one_line
from sicl_jax.methods.state import TrainState
from sicl_jax.runs import integrity
from sicl_jax.runs.quiet import hush

_LATEST_KEPT = 2
_MOST_STEPS = 2**31 - 1
_LARGEST_SIZE = 10**7  # Of a network's parts, so that a stranger's file cannot fill the memory.


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands; saved beside the state as JSON.

    Attributes:
        epoch: The epoch that runs next, or is under way.
        step_in_epoch: Steps of that epoch already done.
        metrics_bytes: Length of `metrics.jsonl` at this point; what comes later is not yet true.
        best: The best value of the selection metric so far, or None.
        best_step: The step at which it was reached.
        sums: Sums over the epoch's steps of every logged scalar.
        figures: What the last `begin_epoch` told: numbers, and words.
        stage: Number of the stage that the state belongs to.
        sizes: Of the network (`Method.sizes`).
    """

    epoch: int = 0
    step_in_epoch: int = 0
    metrics_bytes: int = 0
    best: float | None = None
    best_step: int | None = None
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    stage: int = 0
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_json(cls, record: Any) -> Self:
        """Reads what a file holds, which may come from anywhere.

        Raises:
            ValueError: It is none of ours.
        """
        if not _PROGRESS(record) or (record["best"] is None) != (record["best_step"] is None):
            raise ValueError("run/metadata: no run's progress")
        return cls(**record)


def _figure(value: Any) -> bool:
    return schema.number(value) or isinstance(value, str | list)


_PROGRESS = schema.record(
    {
        "epoch": schema.count(),
        "step_in_epoch": schema.count(),
        "metrics_bytes": schema.count(),
        "best": schema.maybe(schema.number),
        "best_step": schema.maybe(schema.count()),
        "sums": schema.table(schema.number),
        "figures": schema.table(_figure),
        "stage": schema.count(),
        "sizes": schema.table(schema.count(1, _LARGEST_SIZE)),
    },
    others=False,
)


@dataclasses.dataclass(frozen=True)
class Restored:
    """A run as a checkpoint held it.

    Attributes:
        state: On its devices.
        progress: Where the run stands.
        step: Optimiser steps done.
        has_best: Whether the checkpoint that `progress.best` speaks of is there and whole.
    """

    state: TrainState
    progress: Progress
    step: int
    has_best: bool


class Checkpoints:
    """The checkpoint folders of a workdir, for the one run that writes them.

    Args:
        workdir: The run's folder; `checkpoints/latest` and `checkpoints/best` lie below it.
    """

    def __init__(self, workdir: pathlib.Path):
        hush()
        self._folder = (workdir / "checkpoints").resolve()
        with self._write_errors():
            self._latest = _manager(self._folder / "latest", _LATEST_KEPT)
            self._best = _manager(self._folder / "best", 1)

    # ---- writing ---------------------------------------------------------------------------

    def save(self, step: int, state: TrainState, progress: Progress) -> None:
        """Starts to save the run after `step` optimiser steps; what was started before is whole.

        Raises:
            UserError: This checkpoint or the one before cannot be written.
        """
        self.wait()
        self._start(self._latest, step, state, progress)

    def save_best(self, step: int, state: TrainState, progress: Progress) -> None:
        """Starts to save the run as the best one so far.

        Its latest checkpoint, which says where the best one is, is whole by then; so the best one
        that it speaks of either is there or can be written again from it.
        """
        self.wait()
        self._start(self._best, step, state, progress)

    def _start(self, manager, step: int, state: TrainState, progress: Progress) -> None:
        record: dict[str, Any] = dataclasses.asdict(progress)
        record["step"] = step
        record["shapes"] = [list(leaf.shape) for leaf in jax.tree.leaves(state)]
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(record)
        )
        with self._write_errors():
            if step in manager.all_steps():
                manager.delete(step)
            manager.save(step, args=items, force=True)

    def save_failed(self, step: int, state: TrainState, progress: Progress) -> pathlib.Path:
        """Writes a state to be looked at, not to be gone on from; where it is."""
        with self._write_errors():
            failed = _manager(self._folder / "failed", 1)
        try:
            self._start(failed, step, state, progress)
            with self._write_errors():
                failed.wait_until_finished()
        finally:
            _close(failed)
        return self._folder / "failed" / str(step)

    def wait(self) -> None:
        """Returns when everything started is on disk.

        Raises:
            UserError: It cannot be written.
        """
        with self._write_errors():
            self._latest.wait_until_finished()
            self._best.wait_until_finished()

    def close(self) -> None:
        """Releases the folders; call `wait` before to learn of errors."""
        _close(self._latest)
        _close(self._best)

    @contextlib.contextmanager
    def _write_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax and TensorStore raise many kinds of errors.
            raise UserError(
                f"{self._folder}: cannot write a checkpoint ({_reason(error)}); make room there "
                "and run the same command to go on from the last whole one"
            ) from error

    # ---- reading ---------------------------------------------------------------------------

    def restore(
        self, abstract_state: Callable[[Progress], TrainState], say: Callable[[str], None]
    ) -> Restored | None:
        """Loads the newest checkpoint that is whole; sets aside damaged ones that are newer.

        Args:
            abstract_state: Gives the structure, types, shardings and largest shapes of the state
                at a point of the run.
            say: Told of each damaged checkpoint.

        Returns:
            The run, or None where there are no checkpoints at all.

        Raises:
            UserError: All are damaged, or the newest whole one is of another model.
        """
        chosen = processes.on_first(lambda: self._choose(say), like=np.zeros(2, np.int32))
        which, step = chosen.tolist()
        if which < 0:
            return None
        for manager in self._managers:
            manager.reload()  # Some may have been set aside.
        return self._read(self._managers[which], step, abstract_state)

    def _choose(self, say: Callable[[str], None]) -> np.ndarray:
        """The newest whole checkpoint: its manager's number and its step; -1, -1: none at all."""
        damaged = {}
        candidates = self._newest_first()
        for manager, step in candidates:
            folder = pathlib.Path(manager.directory) / str(step)
            damage = integrity.find_damage(folder)
            if step > _MOST_STEPS:
                damage = "its name is no step of a run"
            if damage is None:
                self._set_aside(damaged, say)
                return np.array([self._managers.index(manager), step], np.int32)
            damaged[folder] = damage
        if not candidates:
            return np.array([-1, -1], np.int32)
        lines = "; ".join(f"{folder}: {damage}" for folder, damage in damaged.items())
        raise UserError(f"no whole checkpoint is left ({lines}); restore one, or train anew")

    def _newest_first(self) -> list[tuple[ocp.CheckpointManager, int]]:
        both = [(manager, step) for manager in self._managers for step in manager.all_steps()]
        return sorted(both, key=lambda found: (found[1], found[0] is self._latest), reverse=True)

    @property
    def _managers(self) -> tuple[ocp.CheckpointManager, ...]:
        return self._latest, self._best

    def _set_aside(self, damaged: dict[pathlib.Path, str], say: Callable[[str], None]) -> None:
        for folder, damage in damaged.items():
            aside = self._folder / "damaged" / f"{folder.parent.name}-{folder.name}"
            say(f"warning: {folder} is damaged ({damage}): moved to {aside}, not used")
            with self._write_errors():
                shutil.rmtree(aside, ignore_errors=True)
                aside.parent.mkdir(exist_ok=True)
                folder.rename(aside)

    def _read(self, manager, step: int, abstract_state) -> Restored:
        folder = pathlib.Path(manager.directory) / str(step)
        try:
            record = json.loads((folder / "run" / "metadata").read_bytes())
            if record.pop("step") != step:
                raise ValueError("it holds another step than its name says")
            shapes = record.pop("shapes")
            progress = Progress.from_json(record)
            target = _with_shapes(abstract_state(progress), shapes)
            arguments = ocp.args.Composite(state=ocp.args.StandardRestore(target))
            state = manager.restore(step, args=arguments).state
        except Exception as error:  # Orbax and TensorStore raise many kinds of errors.
            raise UserError(
                f"{folder}: of another model or version ({_reason(error)}); choose another "
                "--workdir"
            ) from error
        has_best = processes.on_first(lambda: self._has_best(progress), like=np.array(False))
        return Restored(state, progress, step, bool(has_best))

    def _has_best(self, progress: Progress) -> np.ndarray:
        if progress.best_step not in self._best.all_steps():
            return np.array(False)
        folder = pathlib.Path(self._best.directory) / str(progress.best_step)
        return np.array(integrity.find_damage(folder) is None)


class _Folder(atomicity.AtomicRenameTemporaryPath):
    """A checkpoint's folder, which gets its manifest before it takes its name."""

    async def finalize(self) -> None:
        is_checkpoint = self.get_final().name.isdecimal()  # Else one of the folders within.
        if is_checkpoint:
            await asyncio.to_thread(integrity.write_manifest, pathlib.Path(self.get()))
        await super().finalize()


def _manager(folder: pathlib.Path, keep: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        create=True,
        enable_async_checkpointing=True,
        cleanup_tmp_directories=True,
        temporary_path_class=_Folder,
    )
    return ocp.CheckpointManager(folder, options=options)


def _close(manager: ocp.CheckpointManager) -> None:
    with contextlib.suppress(Exception):  # Those that matter were raised by `wait`.
        manager.close()


def _with_shapes(abstract_state: TrainState, shapes: list[list[int]]) -> TrainState:
    """The abstract state in a checkpoint's own shapes, which may be smaller but not larger."""
    leaves, structure = jax.tree.flatten(abstract_state)
    own = []
    for leaf, shape in zip(leaves, shapes, strict=True):
        sizes = [int(size) for size in shape]
        if len(sizes) != leaf.ndim or not all(
            0 <= size <= most for size, most in zip(sizes, leaf.shape, strict=True)
        ):
            raise ValueError(f"an array of shape {sizes}, where at most {leaf.shape} is right")
        own.append(jax.ShapeDtypeStruct(tuple(sizes), leaf.dtype, sharding=leaf.sharding))
    return jax.tree.unflatten(structure, own)


def _reason(error: BaseException) -> str:
    """The system's own words for a failed write, which orbax has at the end of long ones."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return one_line(error)
