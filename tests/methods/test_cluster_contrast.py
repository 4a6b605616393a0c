"""Cluster Contrast against what its published code computes, file by file."""

import pathlib

import jax
import pytest

from sicl_jax.methods.cluster_contrast.verify import CHECKS
from sicl_jax.verify import Golden

_GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "cluster_contrast"


@pytest.mark.parametrize("name", CHECKS)
def test_golden_numbers_agree(name):
    with jax.default_matmul_precision("highest"):
        checks = list(CHECKS[name](Golden(_GOLDEN / f"{name}.npz")))
    assert checks
    assert [check for check in checks if not check.ok] == []
