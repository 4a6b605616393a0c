"""What a new user has: the command line, and one small finished run."""

import pathlib
import shutil

import pytest

from sicl_jax import config as configs
from sicl_jax.training import loop

SMALL = (
    "model.width=4", "model.stage_sizes=(1, 1)", "model.pretrained=",
    "data.image_size=(64, 32)", "epochs=2",
    "steps_per_epoch=1", "batch_size=16",
    "embed_batch_size=32", "clustering.k1=8", "silhouettes=False",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(compiled_once):
    """In every module here."""


@pytest.fixture(scope="session")
def small(tiny_data) -> list[str]:
    """Overrides that make `sicl_demo` a matter of seconds."""
    data = (f"data.dir={tiny_data}", "data.name=synthetic_people/tiny")
    return [f"--config.{setting}" for setting in (*SMALL, *data)]


@pytest.fixture(scope="session")
def finished(small, tmp_path_factory) -> pathlib.Path:
    """The workdir of a finished run of 2 epochs; not to be changed."""
    folder = tmp_path_factory.mktemp("everyday") / "run"
    loop.train(configs.load("sicl_demo", small), folder, quiet=True, say=lambda _: None)
    return folder


@pytest.fixture
def copy(finished, tmp_path) -> pathlib.Path:
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "run")


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
