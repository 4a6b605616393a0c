"""Reading a run that others may still be writing: its checkpoints' weights, nothing else of it.

Training restores whole states (`checkpoints.py`); a test or a search needs the weights alone, a
fraction of the bytes, and must leave the workdir as it is.
"""

import dataclasses
import functools
import json
import operator
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from sicl_jax import devices, methods
from sicl_jax.errors import UsageError, UserError, one_line
from sicl_jax.methods.base import Method
from sicl_jax.methods.state import Weights
from sicl_jax.runs import integrity
from sicl_jax.runs.checkpoints import Progress
from sicl_jax.runs.quiet import hush
from sicl_jax.runs.workdir import read_config


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint on disk.

    Attributes:
        folder: Its folder.
        step: Optimiser steps done.
        epoch: Epochs done.
        sizes: Of the network (`Method.sizes`).
    """

    folder: pathlib.Path
    step: int
    epoch: int
    sizes: dict[str, int]


def find(workdir: pathlib.Path, which: str = "best") -> Saved:
    """The checkpoint `which` of a run.

    Args:
        workdir: The run's folder.
        which: `'best'`, `'latest'` or a step number. A run that is never tested has no best one,
            and then its latest one is meant.

    Raises:
        UserError: There is no such checkpoint.
        UsageError: `which` is none of the above.
    """
    if which not in ("best", "latest") and not which.isdecimal():
        raise UsageError(f"--checkpoint {which}: choose 'best', 'latest' or a step number")
    folders = {kind: _steps(workdir / "checkpoints" / kind) for kind in ("latest", "best")}
    kept = {**folders["latest"], **folders["best"]}
    if not kept:
        raise UserError(f"{workdir}: no checkpoint yet; train first")
    if which.isdecimal():
        if int(which) not in kept:
            raise UserError(
                f"--checkpoint {which}: not kept; {workdir} has steps "
                f"{', '.join(map(str, sorted(kept)))}"
            )
        step, folder = int(which), kept[int(which)]
    else:
        chosen = folders[which] or folders["latest"] or folders["best"]
        step, folder = max(chosen.items())
    progress = _progress(folder)
    return Saved(folder, step, progress.epoch, progress.sizes)


def load_weights(
    workdir: pathlib.Path, which: str, method: Callable[[Saved], Method]
) -> tuple[Weights, Method, Saved]:
    """The weights of a checkpoint that are to be tested, whole on every device.

    Args:
        workdir: The run's folder.
        which: As for `find`.
        method: Gives the method of a checkpoint's sizes.

    Returns:
        The weights, their method and the checkpoint.

    Raises:
        UserError: There is no such checkpoint, it is damaged, or it is of another model.
    """

    def choose(found: Saved, _) -> dict[str, Any]:
        made = method(found)
        wanted = {"weights": Weights.of(made.abstract_model())}
        kept = made.abstract_kept()
        return wanted if kept is None else wanted | {"memory": {"kept": kept}}

    restored, saved = _load(workdir, which, choose)
    made = method(saved)
    kept = restored.get("memory", {}).get("kept")
    return made.served(restored["weights"], kept), made, saved


def load_memory(
    workdir: pathlib.Path, which: str, path: Sequence[str] = ()
) -> tuple[np.ndarray, Saved]:
    """An array of a checkpoint's memory (`TrainState.memory`), such as the pseudo-labels.

    Args:
        workdir: The run's folder.
        which: As for `find`.
        path: Where it is in the memory, as names of nested fields; empty if it is all of it.

    Raises:
        UserError: As for `load_weights`.
    """
    path = ("memory", *path)

    def target(_, saved_tree):
        return functools.reduce(
            lambda inner, name: {name: inner},
            reversed(path),
            functools.reduce(operator.getitem, path, saved_tree()),
        )

    restored, saved = _load(workdir, which, target)
    return devices.fetch(functools.reduce(operator.getitem, path, restored)), saved


def fill(model: nnx.Module, method: Method, folder: pathlib.Path) -> None:
    """Fills a new model from the best checkpoint of a run of the same method.

    What the run has beyond the model (the silhouette's encoder, say) is left out. Arrays whose
    sizes the data decide (classifiers, say) stay as they are where the data sets differ in them.

    Args:
        model: What to fill.
        method: The method that built it.
        folder: The run's workdir.

    Raises:
        UserError: There is no run, it is of another method, or its network does not fit.
    """
    where = f"config.model.pretrained={folder}"
    config = read_config(folder)
    if config.method != method.name:
        raise UserError(
            f"{where}: a run of {config.method}, not of {method.name}; export it, and name the file"
        )

    weights, *_ = load_weights(folder, "best", lambda found: methods.create(config, found.sizes))
    theirs = _variables(weights.params, weights.frozen, weights.statistics)
    # The run's network, had it been built for these data: tells whose sizes the data decide.
    resized = _variables(nnx.state(methods.create(config, method.sizes).abstract_model()))
    ours = _variables(nnx.state(model))
    for path, variable in ours.items():
        wanted = variable.shape
        if path not in theirs or wanted not in (theirs[path].shape, resized[path].shape):
            found = "lacks" if path not in theirs else f"has {theirs[path].shape} for"
            raise UserError(
                f"{where}: that run's network {found} {'.'.join(map(str, path))}, {wanted} here; "
                "give config.model as that run has it"
            )
    same = {path: theirs[path] for path, v in ours.items() if theirs[path].shape == v.shape}
    nnx.update(model, nnx.from_flat_state(same))


def _variables(*states: nnx.State) -> dict[tuple, nnx.Variable]:
    """The variables of some states, by path."""
    return {path: leaf for state in states for path, leaf in nnx.to_flat_state(state)}


def _load(
    workdir: pathlib.Path, which: str, choose: Callable[[Saved, Callable[[], Any]], Any]
) -> tuple[Any, Saved]:
    """A part of a checkpoint: what `choose` makes of it.

    `choose` may ask for the saved tree's shapes and types, which takes longer than to read weights.
    """
    saved = find(workdir, which)
    damage = integrity.find_damage(saved.folder)
    try:
        if damage is not None:
            raise ValueError(damage)
        return _read(saved.folder / "state", functools.partial(choose, saved)), saved
    except Exception as error:  # Orbax and TensorStore raise many kinds of errors.
        if not saved.folder.exists():  # A run that goes on has replaced it by a newer one.
            return _load(workdir, which, choose)
        raise UserError(
            f"{saved.folder}: damaged, or of another model or version ({one_line(error)}); "
            "choose another --checkpoint"
        ) from error


def _read(folder: pathlib.Path, choose: Callable[[Callable[[], Any]], Any]) -> Any:
    hush()
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=devices.replicated()
            ),
            choose(lambda: reader.metadata(folder).item_metadata.tree),
        )
        arguments = ocp.args.PyTreeRestore(
            item=target,
            restore_args=ocp.checkpoint_utils.construct_restore_args(target),
            partial_restore=True,
        )
        restored = reader.restore(folder, args=arguments)
    for path, leaf in jax.tree.leaves_with_path(restored):
        if isinstance(leaf, jax.ShapeDtypeStruct):  # What the folder lacks, Orbax leaves as it is.
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(f"it lacks {name}")
    return restored


def _steps(folder: pathlib.Path) -> dict[int, pathlib.Path]:
    """Whole checkpoints by step; those being written bear other names."""
    if not folder.is_dir():
        return {}
    return {int(path.name): path.resolve() for path in folder.iterdir() if path.name.isdecimal()}


def _progress(folder: pathlib.Path) -> Progress:
    try:
        record = json.loads((folder / "run" / "metadata").read_text())
        for name in ("step", "shapes"):
            del record[name]
        return Progress.from_json(record)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise UserError(
            f"{folder}: damaged (run/metadata: {one_line(error)}); choose another --checkpoint"
        ) from error
