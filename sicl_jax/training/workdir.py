"""A run's folder: made for one config and one data set, and for those alone."""

import json
import pathlib
from typing import Any

import ml_collections

from sicl_jax import config as configs
from sicl_jax import ranges
from sicl_jax.configs import base
from sicl_jax.data.files import atomic_file
from sicl_jax.errors import UserError, one_line

CONFIG_FILE = "config.json"
DATASET_FILE = "dataset.json"


def claim(folder: pathlib.Path, config: ml_collections.ConfigDict, fingerprint: str) -> None:
    """Makes an existing folder this run's, or checks that it is.

    Raises:
        UserError: The folder holds a run of another config, or of data that have changed, or one
            whose files are damaged; or it cannot be written to.
    """
    if (folder / CONFIG_FILE).exists():
        _check(folder, config, fingerprint)
        return
    if (folder / "checkpoints").exists():  # They come after it.
        raise _damaged(folder / CONFIG_FILE, "it is missing")
    try:
        _write(folder / DATASET_FILE, json.dumps({"fingerprint": fingerprint}) + "\n")
        _write(folder / CONFIG_FILE, configs.to_json(config))
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written to ({error.strerror or error}); make room there, or "
            "choose another --workdir"
        ) from error


def _check(folder: pathlib.Path, config: ml_collections.ConfigDict, fingerprint: str) -> None:
    changes = configs.differences(read_config(folder), config)
    if changes:
        raise UserError(
            f"{folder} holds a run of another config ({'; '.join(changes[:5])}): "
            "choose another --workdir"
        )
    before = _read(folder / DATASET_FILE)
    if not isinstance(before, dict) or "fingerprint" not in before:
        raise _damaged(folder / DATASET_FILE, "it holds no fingerprint")
    if before["fingerprint"] != fingerprint:
        raise UserError(
            f"{folder}: the data set {config.data.name} has changed since this run began "
            f"(fingerprint {before['fingerprint']} -> {fingerprint}): choose another --workdir"
        )


def read_config(folder: pathlib.Path) -> ml_collections.ConfigDict:
    """The config of the run in a folder.

    Raises:
        UserError: There is none, or it is damaged.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise UserError(f"{folder}: no run here ({CONFIG_FILE} is missing); train one first")
    fields = _read(file)
    if not isinstance(fields, dict):
        raise _damaged(file, "it holds no fields")
    try:
        config = configs.from_json(json.dumps(fields))
        found = dict(configs.flatten(config))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(file, one_line(error)) from error
    for name, value in configs.flatten(base.get_config()):
        if name not in found:
            raise _damaged(file, f"{name} is missing")
        if not _fits(found[name], value):
            raise _damaged(file, f"{name} is {str(found[name])[:50]!r}")
    if misfit := ranges.misfit(found):
        raise _damaged(file, f"{misfit[0]} has to be {misfit[1]}")
    return config


def _fits(value: Any, like: Any) -> bool:
    """Whether a config's value may stand where the base config has `like`."""
    if like is None:
        return True
    if isinstance(like, tuple):
        return isinstance(value, tuple) and all(_fits(item, like[0]) for item in value)
    return type(value) is type(like) or (isinstance(like, float) and type(value) is int)


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
