"""One small trained run, and folders of images to use it on."""

import pathlib
import shutil

import controls
import pytest
from PIL import Image

from sicl_jax import devices


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(compiled_once):
    """In every module here."""


SPLITS = ("query_changed", "gallery")


@pytest.fixture(scope="session")
def run_folder(tiny_data, tmp_path_factory) -> pathlib.Path:
    """The workdir of a finished run; not to be changed."""
    from sicl_jax import config as configs
    from sicl_jax.training import loop

    settings = {
        "data.dir": tiny_data, "data.name": "synthetic_people/tiny", "model.width": 4,
        "model.pretrained": "", "model.stage_sizes": (1, 1, 1),
        "data.image_size": (64, 32), "epochs": 2, "steps_per_epoch": 2, "batch_size": 16,
        "embed_batch_size": 32, "clustering.k1": 8, "evaluate.every": 1, "evaluate.before": False,
    }  # fmt: skip
    changes = [f"--config.{name}={value}" for name, value in settings.items()]
    folder = tmp_path_factory.mktemp("runs") / "run"
    loop.train(configs.load("sicl_demo", changes), folder, quiet=True, say=lambda _: None)
    return folder


@pytest.fixture
def run_copy(run_folder, tmp_path) -> pathlib.Path:
    """A copy of the workdir, to be damaged."""
    return shutil.copytree(run_folder, tmp_path / "run")


@pytest.fixture(scope="session")
def model(run_folder):
    import sicl_jax

    return sicl_jax.load(run_folder, checkpoint="latest")


@pytest.fixture(scope="session")
def dataset(model):
    from sicl_jax.training.loop import open_dataset

    return open_dataset(model.config, model.method)


@pytest.fixture(scope="session")
def rounding(model, dataset) -> float:
    """What features of the model may differ by where two programs compute them."""
    columns = {"image": dataset.split("gallery").pixels["image"][:8]}
    return controls.tolerance(
        lambda weights: model.embedder()(devices.put_replicated(weights), columns), model.weights
    )


@pytest.fixture(scope="session")
def crops(dataset, tmp_path_factory) -> pathlib.Path:
    """Folders `query_changed` and `gallery` with a folder of PNGs for each person."""
    folder = tmp_path_factory.mktemp("crops")
    for name in SPLITS:
        split = dataset.split(name)
        for row in range(0, len(split), 2):
            path = folder / name / str(split.labels["identity"][row]) / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(split.pixels["image"][row]).save(path)
    return folder


@pytest.fixture
def sicl(capsys):
    """Runs the command line: `sicl('search', ...)` gives exit code, output and errors."""
    from sicl_jax.cli import main

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            main([str(word) for word in words])
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
