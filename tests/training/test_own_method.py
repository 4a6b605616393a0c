"""An own method and an own data set, both outside the package, through every command.

They are installed as pip would: entry points in a folder of packages that Python searches.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest

_REPOSITORY = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(_REPOSITORY / "tests" / "data"))
from test_own_dataset import declare, write_corridor  # noqa: E402

_EXAMPLES = _REPOSITORY / "examples"
_STEPS = 15


class Commands:
    """`sicl-jax` in processes that see the installed packages."""

    def __init__(self, site: pathlib.Path):
        paths = [site, _EXAMPLES / "own_method", _EXAMPLES / "own_dataset", _REPOSITORY]
        self.environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}

    def start(self, *words) -> subprocess.Popen:
        code = "from sicl_jax.cli import main; main()"
        command = [sys.executable, "-c", code, *map(str, words)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment, **pipes)

    def __call__(self, *words) -> str:
        process = self.start(*words)
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        return output


@pytest.fixture(scope="module")
def sicl(tmp_path_factory) -> Commands:
    site = tmp_path_factory.mktemp("site")
    for example in ("own_method", "own_dataset"):
        text = (_EXAMPLES / example / "pyproject.toml").read_text()
        declare(site, tomllib.loads(text)["project"])
    return Commands(site)


@pytest.fixture(scope="module")
def corridor(sicl, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("corridor")
    tree = write_corridor(folder / "raw")
    sicl("prepare", "corridor", "--raw", tree.raw, "--masks", tree.masks, "--data_dir", folder)
    return folder


@pytest.fixture(scope="module")
def train(corridor):
    """Words of the command that trains into a workdir."""
    return lambda workdir, *more: (
        *("train", "--config", _EXAMPLES / "own_method" / "two_views_corridor.py"),
        *("--workdir", workdir, "--quiet", f"--config.data.dir={corridor}"),
        *(f"--config.steps_per_epoch={_STEPS}", "--config.checkpoint_every_steps=1", *more),
    )


@pytest.fixture(scope="module")
def run(sicl, train, tmp_path_factory) -> pathlib.Path:
    """The workdir of a run that was killed once, and went on."""
    folder = tmp_path_factory.mktemp("runs") / "killed"
    process = sicl.start(*train(folder))
    latest = folder / "checkpoints" / "latest"
    deadline = time.monotonic() + 200
    while not any(path.name.isdecimal() and int(path.name) > 2 for path in latest.glob("*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "resumed in epoch" in sicl(*train(folder))
    return folder


def test_it_ends_as_a_run_that_was_not_killed(sicl, train, run, tmp_path):
    sicl(*train(tmp_path / "whole"))
    whole, killed = ((tmp_path / "whole"), run)
    epochs = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (whole, killed)
    ]
    losses = [[e["loss"] for e in lines if e["kind"] == "epoch"] for lines in epochs]
    assert len(losses[0]) == 3 and losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]


def test_it_is_tested_by_the_data_sets_own_protocols(sicl, run):
    found = json.loads(sicl("evaluate", "--workdir", run, "--json", "--quiet"))
    assert list(found["protocols"]) == ["other_day", "any_day", "any_day/single_shot"]


def test_it_is_reported(sicl, run, tmp_path):
    sicl("report", "--workdir", run, "--output", tmp_path / "report.html", "--quiet")
    page = (tmp_path / "report.html").read_text()
    assert "two_views on corridor" in page and "other day" in page


def test_it_is_exported_under_its_own_names(sicl, run, tmp_path):
    from safetensors.numpy import load_file

    file = tmp_path / "weights.safetensors"
    sicl("export", "--workdir", run, "--format", "safetensors", "--output", file)
    arrays = load_file(file)
    assert arrays["backbone.conv1.kernel"].shape == (4, 3, 7, 7)
    assert np.isfinite(arrays["projection.kernel"]).all()


def test_it_is_searched_with(sicl, run, corridor, tmp_path):
    gallery = next((corridor / "raw").rglob("gallery"))
    index = tmp_path / "index"
    sicl("index", "--workdir", run, "--images", gallery, "--index", index, "--quiet")
    query = next(path for path in gallery.rglob("*") if path.is_file())
    words = ("search", "--workdir", run, "--index", index, "--query", query, "--json", "--quiet")
    (found,) = json.loads(sicl(*words))["results"]
    assert len(found["hits"]) > 0
