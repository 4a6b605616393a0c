"""A run's folder: made for one config and one data set, and for those alone."""

import json
import pathlib

import ml_collections

from sicl_jax import config as configs
from sicl_jax.errors import UserError

CONFIG_FILE = "config.json"
DATASET_FILE = "dataset.json"


def claim(folder: pathlib.Path, config: ml_collections.ConfigDict, fingerprint: str) -> None:
    """Makes the folder for this run, or checks that it is this run's.

    Raises:
        UserError: The folder holds a run of another config, or of data that have changed.
    """
    file = folder / CONFIG_FILE
    if file.exists():
        changes = configs.differences(read_config(folder), config)
        if changes:
            raise UserError(
                f"{folder} holds a run of another config ({'; '.join(changes[:5])}): "
                "choose another --workdir"
            )
        before = json.loads((folder / DATASET_FILE).read_text())["fingerprint"]
        if before != fingerprint:
            raise UserError(
                f"{folder}: the data set {config.data.name} has changed since this run began "
                f"(fingerprint {before} -> {fingerprint}): choose another --workdir"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / DATASET_FILE, json.dumps({"fingerprint": fingerprint}) + "\n")
    _write(file, configs.to_json(config))


def read_config(folder: pathlib.Path) -> ml_collections.ConfigDict:
    """The config of the run in a folder.

    Raises:
        UserError: There is none.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise UserError(f"{folder}: no run here ({CONFIG_FILE} is missing); train one first")
    try:
        return configs.from_json(file.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: damaged ({error}); restore it or train anew") from error


def _write(file: pathlib.Path, text: str) -> None:
    temporary = file.with_name(file.name + ".partial")
    temporary.write_text(text)
    temporary.replace(file)
