"""Small raw trees to damage."""

import shutil

import pytest
import raw_pictures
import raw_trees

from sicl_jax.data.prepare import Request, prepare


@pytest.fixture(scope="session")
def pristine_prcc(tmp_path_factory) -> raw_pictures.RawTree:
    return raw_trees.write_prcc(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def prcc(pristine_prcc, tmp_path) -> raw_pictures.RawTree:
    """A PRCC tree of one's own, to be damaged."""
    for folder in ("raw", "masks"):
        shutil.copytree(getattr(pristine_prcc, folder), tmp_path / folder)
    return raw_pictures.RawTree(
        tmp_path / "raw", tmp_path / "masks", pristine_prcc.labels, pristine_prcc.pictures
    )


@pytest.fixture
def prepare_prcc(prcc, tmp_path):
    """Prepares `prcc`; keywords as of `Request`."""

    def run(**options):
        options = {"raw": prcc.raw, "masks": prcc.masks} | options
        return prepare(Request("prcc", tmp_path / "data", **options))

    return run
