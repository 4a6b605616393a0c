"""Checkpoints of DeskPro's authors: the names of the three networks, and where a teacher lies."""

import dataclasses
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


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """A face teacher, and what its run tells of the people that it knows.

    Attributes:
        source: What `--config.teacher` says.
        arrays: By the authors' names.
        identities: (C,) int32, that of each class; None of a file, which does not tell.
        data: Name and fingerprint of the run's data set; empty of a file.
    """

    source: str
    arrays: dict[str, np.ndarray]
    identities: np.ndarray | None = None
    data: tuple[str, ...] = ()

    def check(self, name: str, identities: np.ndarray, fingerprint: str) -> list[str]:
        """Warns of a teacher of other data that number their identities alike.

        Args:
            name: Of the data set.
            identities: (C,) int32, that of each class; there are as many as the teacher has.
            fingerprint: Of the data set.

        Raises:
            UserError: The teacher's classes are other identities.
        """
        if self.identities is None:
            return []
        if not np.array_equal(self.identities, identities):
            unknown = np.setdiff1d(identities, self.identities)
            how = f"it does not know {unknown[0]}" if len(unknown) else "it sorts them otherwise"
            raise UserError(
                f"--config.teacher={self.source}: the teacher knows {len(identities)} identities "
                f"but not those of {name} ({how}); train a teacher on the same data"
            )
        if self.data == (name, fingerprint):
            return []
        return [
            "the teacher of {} learned on {}, fingerprint {}, and these data are {}, {}: their "
            "identities have the same numbers; are they the same people?".format(
                self.source, *self.data, name, fingerprint
            )
        ]


def read_teacher(path: str, streams: str) -> Teacher:
    """A face teacher.

    Args:
        path: The workdir of a run of `lmbn`, whose best checkpoint is meant, or a file.
        streams: What `config.model.streams` of the run has to be; a file does not tell.

    Raises:
        UserError: There is no such run or file, it is of another network, or it is damaged.
    """
    folder = pathlib.Path(path).expanduser()
    if not folder.exists():
        raise UserError(
            f"--config.teacher={path}: no such workdir or file; train a teacher with "
            "configs/deskpro_teacher_*.py"
        )
    if not folder.is_dir():
        return Teacher(path, read(path))
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
    arrays = torch_names.collect(method.names(method.model(weights)))
    identities, _ = saved.load_memory(folder, "best")
    return Teacher(path, arrays, identities, (config.data.name, workdir.read_fingerprint(folder)))
