"""The golden checkpoint of the parser, drawn and written once for all tests of the masks."""

import ast

import numpy as np
import pytest

from sicl_jax.masks.params import load_parser
from sicl_jax.verify.schp import draw
from sicl_jax.weights.torch_files import save_state_dict


@pytest.fixture(scope="session")
def schp_arrays(golden) -> dict[str, np.ndarray]:
    """The golden checkpoint (18 classes) under the published names."""
    archive = golden("schp")
    return {
        f"module.{name}": draw(str(name), ast.literal_eval(str(shape)))
        for name, shape in zip(archive["parameter_names"], archive["parameter_shapes"], strict=True)
    }


@pytest.fixture(scope="session")
def schp_pth(schp_arrays, tmp_path_factory):
    """The same as a `.pth` file, packed as training scripts pack it."""
    path = tmp_path_factory.mktemp("weights") / "schp.pth"
    save_state_dict(path, {"state_dict": schp_arrays, "epoch": 150})
    yield path
    path.unlink()  # A quarter of a gigabyte, and pytest keeps its folders.


@pytest.fixture(scope="session")
def parser(schp_pth):
    """The parser with the golden weights."""
    parser, kind = load_parser(schp_pth)
    assert (kind.dataset, kind.num_classes, kind.input_size) == ("atr", 18, 512)
    return parser
