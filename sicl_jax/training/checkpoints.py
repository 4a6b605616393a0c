"""Checkpoints of whole runs with orbax: the latest and the best, written in the background."""

import dataclasses
import logging
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from sicl_jax.errors import UsageError, UserError
from sicl_jax.methods.base import State

_LATEST_KEPT = 2


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands; saved beside the state as JSON.

    Attributes:
        epoch: The epoch that runs next, or is under way.
        step_in_epoch: Steps of that epoch already done.
        metrics_bytes: Length of `metrics.jsonl` at this point; what comes later is not yet true.
        best: The best value of the selection metric so far, or None.
        sums: Sums over the epoch's steps of every logged scalar.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    metrics_bytes: int = 0
    best: float | None = None
    sums: dict[str, float] = dataclasses.field(default_factory=dict)


class Checkpoints:
    """The two checkpoint folders of a workdir.

    Args:
        workdir: The run's folder; `checkpoints/latest` and `checkpoints/best` lie below it.
    """

    def __init__(self, workdir: pathlib.Path):
        # Orbax warns about single-process details that a user cannot act on.
        logging.getLogger("absl").setLevel(logging.ERROR)
        folder = (workdir / "checkpoints").resolve()
        self._latest = _manager(folder / "latest", _LATEST_KEPT)
        self._best = _manager(folder / "best", 1)

    def save(self, step: int, state: State, progress: Progress) -> None:
        """Starts to save the run after `step` optimiser steps."""
        _save(self._latest, step, state, progress)

    def save_best(self, step: int, state: State, progress: Progress) -> None:
        """Starts to save the run as the best one so far."""
        _save(self._best, step, state, progress)

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, or None."""
        return self._latest.latest_step()

    def restore(self, which: str, abstract_state: State) -> tuple[State, Progress, int]:
        """Loads a run.

        Args:
            which: `'latest'`, `'best'` or a step number.
            abstract_state: Structure, types and shardings; shapes are the checkpoint's own.

        Returns:
            The state on its devices, where the run stands, and the step.

        Raises:
            UserError: There is no such checkpoint.
            UsageError: `which` is none of the above.
        """
        manager, step = self._find(which)
        record = manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore())).run
        shapes = record.pop("shapes")
        leaves, structure = jax.tree.flatten(abstract_state)
        leaves = [
            jax.ShapeDtypeStruct(tuple(shape), leaf.dtype, sharding=leaf.sharding)
            for leaf, shape in zip(leaves, shapes, strict=True)
        ]
        target = jax.tree.unflatten(structure, leaves)
        restored = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
        )
        return restored.state, Progress(**record), step

    def _find(self, which: str) -> tuple[ocp.CheckpointManager, int]:
        if which in ("latest", "best"):
            manager = self._latest if which == "latest" else self._best
            step = manager.latest_step()
            if step is None:
                raise UserError(f"{manager.directory}: no checkpoint yet; train first")
            return manager, step
        if not which.isdigit():
            raise UsageError(f"--checkpoint {which}: choose 'best', 'latest' or a step number")
        for manager in (self._latest, self._best):
            if int(which) in manager.all_steps():
                return manager, int(which)
        kept = sorted({*self._latest.all_steps(), *self._best.all_steps()})
        raise UserError(f"--checkpoint {which}: not kept; there are {kept or 'none'}")

    def wait(self) -> None:
        """Returns when everything started is on disk."""
        self._latest.wait_until_finished()
        self._best.wait_until_finished()

    def close(self) -> None:
        """Waits and releases the folders."""
        self._latest.close()
        self._best.close()


def _manager(folder: pathlib.Path, keep: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, create=True, enable_async_checkpointing=True
    )
    return ocp.CheckpointManager(folder, options=options)


def _save(manager: ocp.CheckpointManager, step: int, state: State, progress: Progress) -> None:
    if step in manager.all_steps():
        manager.delete(step)
    record: dict[str, Any] = dataclasses.asdict(progress)
    record["shapes"] = [list(leaf.shape) for leaf in jax.tree.leaves(state)]
    manager.save(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(record)),
        force=True,
    )
