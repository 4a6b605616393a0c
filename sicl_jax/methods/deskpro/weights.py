"""Checkpoints of DeskPro's authors: names of the three networks, and the teacher's own file."""

import os
from collections.abc import Mapping

import numpy as np

from sicl_jax.errors import UserError
from sicl_jax.methods.deskpro.model import DeskProModel
from sicl_jax.models.lmbn import LMBN
from sicl_jax.weights import lmbn, torch_names
from sicl_jax.weights.torch_names import Names

TEACHER, STUDENT, BODY = "face_net", "lr_face_net", "nocloth_net"


def names(model: DeskProModel) -> Names:
    """The authors' names of a model's variables, less `model.`; networks it lacks are left out."""
    result: Names = {}
    for prefix, network in (
        (TEACHER, model.teacher),
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


def assign_teacher(
    teacher: LMBN, arrays: Mapping[str, np.ndarray], source: str | os.PathLike[str]
) -> None:
    """Fills the teacher from a checkpoint whose names begin with `face_net.`.

    Args:
        teacher: What to fill.
        arrays: By name, less `module.`; other networks' names are passed over.
        source: The file they come from, for errors.

    Raises:
        UserError: The file has no such names, another number of classes, or does not fit.
    """
    own = {n: a for n, a in lmbn.without_repeats(arrays).items() if n.startswith(f"{TEACHER}.")}
    if not own:
        raise UserError(
            f"{source}: holds no face teacher (names that begin with {TEACHER}.); "
            "train one with configs/deskpro_teacher_*.py and name its run or its export"
        )
    classifier = f"{TEACHER}.global_branch.reduction_1.classifier.weight"
    expected = teacher.global_heads[0].classifier.kernel.shape[1]
    if classifier in own and (classes := len(own[classifier])) != expected:
        raise UserError(
            f"{source}: the teacher knows {classes} identities and the training data have "
            f"{expected}; train a teacher on the same data"
        )
    torch_names.assign(lmbn.names(TEACHER, teacher), own, source)
