"""Checkpoints of DeskPro's authors: the names of the three networks, and where a teacher lies."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from sicl_jax import methods
from sicl_jax.errors import UserError
from sicl_jax.methods.deskpro.model import DeskProModel
from sicl_jax.runs import saved, workdir
from sicl_jax.weights import lmbn, torch_names
from sicl_jax.weights.torch_files import load_state_dict
from sicl_jax.weights.torch_names import Names

STUDENT, BODY = "lr_face_net", "nocloth_net"


def names(model: DeskProModel) -> Names:
    """The authors' names of a model's variables, less `model.`; networks it lacks are left out."""
    result: Names = {}
    for prefix, network in (
        (lmbn.TEACHER, model.teacher),
        (STUDENT, model.student),
        (BODY, model.body),
    ):
        if network is not None:
            result |= lmbn.names(prefix, network)
    if model.body is not None:
        attention = model.body.attention
        result[f"{BODY}.spatial_attn.conv1.weight"] = attention.conv1.kernel
        result[f"{BODY}.spatial_attn.conv2.weight"] = attention.conv2.kernel
    return result


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a weight file by the authors' names, or the public OSNet's.

    Raises:
        UserError: The file cannot be read.
    """
    return lmbn.published(load_state_dict(path, strip_prefix="module."))


def assign(
    model: DeskProModel, arrays: Mapping[str, np.ndarray], source: str | os.PathLike[str]
) -> None:
    """Fills a model from a checkpoint of the authors, or all networks from the public OSNet's file.

    Args:
        model: What to fill. One of a single mode leaves out the checkpoint's other networks.
        arrays: From `read`.
        source: The file, for errors.

    Raises:
        UserError: They do not fit the model.
    """
    if lmbn.is_osnet(arrays):
        for network in (model.student, model.body, model.teacher):
            if network is not None:
                lmbn.assign_osnet(network, arrays, source)
        return
    known = [n for n in arrays if n.split(".")[0] in (lmbn.TEACHER, STUDENT, BODY)]
    whole = model.student is not None and model.body is not None
    torch_names.assign(names(model), arrays, source, ignored=() if whole else known)


def recognize(arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Config fields of the model in a checkpoint of the authors; None if it is none.

    One of ours may lack a network, if its forward mode did without.
    """
    arrays = lmbn.published(arrays)
    face, body = lmbn.shape_of(arrays, STUDENT), lmbn.shape_of(arrays, BODY)
    if body and f"{BODY}.spatial_attn.conv1.weight" not in arrays:
        return None
    if face and body:
        return {"forward_mode": "all", **body}
    return {"forward_mode": "face" if face else "body", **(face or body)} if face or body else None


def read_teacher(path: str, streams: str) -> dict[str, np.ndarray]:
    """The arrays of a face teacher, by the authors' names.

    Args:
        path: The workdir of a run of `lmbn`, whose best checkpoint is meant, or a file.
        streams: What `config.model.streams` of the run has to be; a file does not tell.

    Raises:
        UserError: There is no such run or file, it is of another network, or it is damaged.
    """
    folder = pathlib.Path(path).expanduser()
    if not folder.is_dir():
        return read(path)
    config = workdir.read_config(folder)
    if config.method != "lmbn":
        raise UserError(
            f"--config.teacher={path}: a run of {config.method}; train a teacher with "
            "configs/deskpro_teacher_*.py"
        )
    if config.model.streams != streams:
        raise UserError(
            f"--config.teacher={path}: its blocks have {config.model.streams} streams and these "
            f"{streams}; set --config.model.streams={config.model.streams}"
        )
    weights, method, _ = saved.load_weights(
        folder, "best", lambda found: methods.create(config, found.sizes)
    )
    return torch_names.collect(method.names(method.model(weights)))
