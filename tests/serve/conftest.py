"""An index of drawn people, and a server of it in this process."""

import contextlib
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image
from serving import client_of, create

PEOPLE, IMAGES = 6, 4


@pytest.fixture(scope="session")
def model():
    """An untrained network: what it finds alike is of no concern here."""
    from sicl_jax import config as configs
    from sicl_jax import devices, methods
    from sicl_jax.inference import Model

    settings = ("model.width=4", "model.stage_sizes=(1, 1)", "data.image_size=(32, 16)")
    settings += ("model.pretrained=", "embed_batch_size=32")
    changes = [f"--config.{setting}" for setting in settings]
    method = methods.create(configs.load("sicl_demo", changes), {})
    weights = devices.put_replicated(method.initial_weights(0))
    return Model(method, weights, pathlib.Path("untrained"))


@pytest.fixture(scope="session")
def crops(tmp_path_factory) -> pathlib.Path:
    """`cam1` and `cam2` with six people of two images each in both."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("crops")
    for person in range(PEOPLE):
        colors = rng.integers(40, 255, (2, 3))
        for number in range(IMAGES):
            pixels = rng.integers(0, 40, (128, 64, 3))
            pixels[20:60, 16:48] += colors[0]
            pixels[60:120, 20:44] += colors[1]
            name = f"p{person}_2026031{number}_080512.png"
            path = folder / f"cam{1 + number % 2}" / name
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return folder


@pytest.fixture(scope="session")
def made_index(model, crops, tmp_path_factory) -> pathlib.Path:
    """An index of the crops; not to be changed."""
    from sicl_jax.retrieval import build

    folder = tmp_path_factory.mktemp("made") / "index"
    build.add_folder(model, crops, folder)
    return folder


@pytest.fixture
def index_folder(made_index, tmp_path) -> pathlib.Path:
    """A copy of the index."""
    return shutil.copytree(made_index, tmp_path / "index")


@pytest.fixture
def serve(model, index_folder):
    """Makes the application: `serve(tokens)`; ends its threads afterwards."""
    with contextlib.ExitStack() as stack:

        def make(tokens=None, *, is_loopback=True):
            given = {"tokens": tokens, "is_loopback": is_loopback}
            return stack.enter_context(create(model, index_folder, **given))

        yield make


@pytest.fixture
def client(serve):
    """A client of a server without a token."""
    return client_of(serve())
