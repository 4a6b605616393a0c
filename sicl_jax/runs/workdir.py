"""A run's folder: made for one config and one data set, and for those alone."""

import json
import pathlib
from typing import Any

import ml_collections

from sicl_jax import config as configs
from sicl_jax import fields, methods
from sicl_jax.data.files import atomic_file
from sicl_jax.errors import UsageError, UserError, one_line

CONFIG_FILE = "config.json"
DATASET_FILE = "dataset.json"
_OWN_FILES = frozenset(
    {CONFIG_FILE, DATASET_FILE, "checkpoints", "metrics.jsonl", "tensorboard", ".lock"}
)


def is_owned(folder: pathlib.Path) -> bool:
    """Whether a run owns a folder: it does from its first checkpoint on."""
    return any(path.name.isdecimal() for path in (folder / "checkpoints").glob("*/*"))


def refuse_foreign(folder: pathlib.Path) -> None:
    """Refuses a folder of anything but a run, before anything is written into it.

    Raises:
        UserError: No run owns it, and it holds files that are no run's.
    """
    if not folder.is_dir() or is_owned(folder):
        return
    if foreign := sorted(path.name for path in folder.iterdir() if path.name not in _OWN_FILES):
        raise UserError(
            f"{folder}: holds {foreign[0]}, which is no file of a run; choose an empty or new "
            "--workdir"
        )


def check(
    folder: pathlib.Path,
    config: ml_collections.ConfigDict,
    fingerprint: str,
    *,
    extend: bool = False,
) -> list[str]:
    """Refuses a folder that another run owns. What failed before a first checkpoint owns none.

    Args:
        folder: The workdir.
        config: The experiment.
        fingerprint: Of its data set.
        extend: Whether the run that owns it may be trained on, with more epochs.

    Returns:
        `field: old -> new` for each field that differs, if it is to be extended.

    Raises:
        UserError: The folder holds a run of another config, or of data that have changed, or one
            whose files are damaged.
    """
    if not is_owned(folder):
        if extend:
            raise UserError(f"--extend: no run in {folder}; train one first, without --extend")
        return []
    if not (folder / CONFIG_FILE).exists():
        raise _damaged(folder / CONFIG_FILE, "it is missing")
    owner = read_config(folder)
    changes = configs.differences(owner, config)
    if changes and extend:
        _check_extension(owner, config, changes)
    elif changes:
        may = " (or --extend that one)" if _is_extension(changes) else ""
        raise UserError(
            f"{folder} holds a run of another config ({'; '.join(changes[:5])}): "
            f"choose another --workdir{may}"
        )
    before = read_fingerprint(folder)
    if before != fingerprint:
        raise UserError(
            f"{folder}: the data set {config.data.name} has changed since this run began "
            f"(fingerprint {before} -> {fingerprint}): choose another --workdir"
        )
    return changes


def read_fingerprint(folder: pathlib.Path) -> str:
    """The fingerprint of the data set that the run in a folder learns from.

    Raises:
        UserError: The file is missing or damaged.
    """
    found = _read(folder / DATASET_FILE)
    if not isinstance(found, dict) or "fingerprint" not in found:
        raise _damaged(folder / DATASET_FILE, "it holds no fingerprint")
    return found["fingerprint"]


def _is_extension(changes: list[str]) -> bool:
    """Whether nothing but epochs and the learning rate's schedule differ."""
    return all(each.startswith(("config.epochs:", "config.schedule.")) for each in changes)


def _check_extension(
    before: ml_collections.ConfigDict, config: ml_collections.ConfigDict, changes: list[str]
) -> None:
    if not _is_extension(changes):
        raise UsageError(
            f"--extend: only config.epochs and config.schedule may change, not {'; '.join(changes)}"
        )
    old, new = (methods.create(each).stages for each in (before, config))
    if new[-1].epochs <= old[-1].epochs:
        raise UsageError(
            f"--extend: config.epochs was {before.epochs} and is {config.epochs}; give more"
        )
    if [stage.epochs for stage in old[:-1]] != [stage.epochs for stage in new[:-1]]:
        raise UsageError(
            f"--extend: config.epochs are those of stage {new[0].name}, which is done: only the "
            "last stage can be extended; train anew"
        )


def claim(folder: pathlib.Path, config: ml_collections.ConfigDict, fingerprint: str) -> None:
    """Makes an existing folder this run's.

    Raises:
        UserError: It cannot be written to.
    """
    try:
        _write(folder / DATASET_FILE, json.dumps({"fingerprint": fingerprint}) + "\n")
        _write(folder / CONFIG_FILE, configs.to_json(config))
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written to ({error.strerror or error}); make room there, or "
            "choose another --workdir"
        ) from error


def read_config(folder: pathlib.Path) -> ml_collections.ConfigDict:
    """The config of the run in a folder.

    Raises:
        UserError: There is none, or it is damaged.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise UserError(f"{folder}: no run here ({CONFIG_FILE} is missing); train one first")
    values = _read(file)
    if not isinstance(values, dict):
        raise _damaged(file, "it holds no fields")
    try:
        config = configs.from_json(json.dumps(values))
        found = dict(configs.flatten(config))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(file, one_line(error)) from error
    method = found.get("method")
    if not isinstance(method, str):
        raise _damaged(file, "method is missing")
    schema = configs.schema(method)
    for name, field in schema.items():
        if name not in found:
            raise UserError(
                f"{file}: of another version of sicl_jax (it has no {name}); go on with that "
                "version, or train anew"
            )
        if not fields.has_type(found[name], field.default):
            raise _damaged(file, f"{name} is {str(found[name])[:50]!r}")
    if misfit := fields.misfit(schema, found):
        raise _damaged(file, f"{misfit[0]} has to be {misfit[1]}")
    return config


def _read(file: pathlib.Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(file, one_line(error)) from error


def _damaged(file: pathlib.Path, reason: str) -> UserError:
    return UserError(f"{file}: damaged ({reason}); restore it, or train anew")


def _write(file: pathlib.Path, text: str) -> None:
    with atomic_file(file) as draft:
        draft.write(text.encode())
