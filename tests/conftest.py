"""What all tests share: where the golden files and the real photographs lie."""

import pathlib

import numpy as np
import pytest

_TESTS = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def golden():
    """Loads a golden file by its name: `golden('memory')`."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(_TESTS / "golden" / f"{name}.npz") as archive:
            return dict(archive)

    return load


@pytest.fixture(scope="session")
def real_photographs() -> pathlib.Path:
    """The folder of real walking people beside the checkout; skips where it is absent."""
    folder = _TESTS.parent.parent / "shared" / "real"
    if not folder.is_dir():
        pytest.skip(f"no real photographs: {folder.name} is not beside the checkout")
    return folder
