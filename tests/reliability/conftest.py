"""A small data set and processes that train on it."""

import os
import pathlib

import pytest
from trainings import Trainer

from sicl_jax import methods
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.methods import source
from sicl_jax.runs import workdir
from sicl_jax.training import loop


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> pathlib.Path:
    """Where the tiny synthetic people are prepared."""
    folder = tmp_path_factory.mktemp("people")
    prepare(Request("synthetic_people/tiny", folder))
    return folder


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> pathlib.Path:
    """Programs that one process compiled, for the others; of the last session too if set."""
    kept = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return pathlib.Path(kept) if kept else tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="session")
def trainer(people, compiled):
    trainer = Trainer(people, compiled)
    yield trainer
    trainer.close()


@pytest.fixture(scope="session")
def reference(trainer, tmp_path_factory) -> pathlib.Path:
    """The workdir of a run that was never interrupted."""
    workdir = tmp_path_factory.mktemp("reference") / "run"
    ended = trainer.train(workdir)
    assert ended.code == 0, ended.errors
    return workdir


@pytest.fixture(scope="session")
def method(reference):
    return methods.create(workdir.read_config(reference))


@pytest.fixture(scope="session")
def abstract_state(reference, method):
    config = workdir.read_config(reference)
    data = loop.open_dataset(config, method).split("train")
    return lambda progress: source.abstract_state(method, data, progress.stage)
