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
from safetensors.numpy import load_file

_REPOSITORY = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(_REPOSITORY / "tests" / "data"))
from test_own_dataset import declare, write_corridor  # noqa: E402

_EXAMPLES = _REPOSITORY / "examples"
_STEPS = 5


class Commands:
    """`sicl-jax` in processes that see the installed packages."""

    def __init__(self, site: pathlib.Path):
        paths = [site, _EXAMPLES / "own_method", _EXAMPLES / "own_dataset", _REPOSITORY]
        self.environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}

    def start(self, *lines) -> subprocess.Popen:
        """Runs command lines one after the other, up to the first that fails."""
        lines = [[str(word) for word in words] for words in lines]
        command = [sys.executable, "-c", _RUN, json.dumps(lines)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment, **pipes)

    def __call__(self, *lines) -> list[str]:
        """What each printed."""
        process = self.start(*lines)
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        return output.split("\0")[:-1]


_RUN = """
import json, sys
from sicl_jax.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        if end.code:
            raise
    print(end="\\0", flush=True)
"""


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
    words = ("prepare", "corridor", "--raw", tree.raw, "--masks", tree.masks)
    sicl((*words, "--data_dir", folder))
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
def killed(sicl, train, tmp_path_factory) -> pathlib.Path:
    """The workdir of a run that was killed once."""
    folder = tmp_path_factory.mktemp("runs") / "killed"
    process = sicl.start(train(folder))
    latest = folder / "checkpoints" / "latest"
    deadline = time.monotonic() + 200
    while not any(path.name.isdecimal() and int(path.name) > 2 for path in latest.glob("*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    """The workdir of a run that was not killed."""
    return tmp_path_factory.mktemp("runs") / "whole"


@pytest.fixture(scope="module")
def printed(sicl, train, killed, whole, corridor, tmp_path_factory) -> dict[str, str]:
    """What the killed run's commands print, from `train` again on, by command; and their files."""
    out = tmp_path_factory.mktemp("out")
    gallery = next((corridor / "raw").rglob("gallery"))
    query = next(path for path in gallery.rglob("*") if path.is_file())
    run = ("--workdir", killed)
    lines = {
        "train": train(killed),
        "train whole": train(whole),
        "evaluate": ("evaluate", *run, "--json", "--quiet"),
        "report": ("report", *run, "--output", out / "report.html", "--quiet"),
        "export": ("export", *run, "--format", "safetensors", "--output", out / "a.safetensors"),
        "index": ("index", *run, "--images", gallery, "--index", out / "index", "--quiet"),
        "search": ("search", *run, "--index", out / "index", "--query", query, "--json", "--quiet"),
    }
    printed = dict(zip(lines, sicl(*lines.values()), strict=True))
    return printed | {"out": out}


def test_it_ends_as_a_run_that_was_not_killed(printed, killed, whole):
    assert "resumed in epoch" in printed["train"]
    epochs = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (whole, killed)
    ]
    losses = [[e["loss"] for e in lines if e["kind"] == "epoch"] for lines in epochs]
    assert len(losses[0]) == 3 and losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]


def test_it_is_tested_by_the_data_sets_own_protocols(printed):
    found = json.loads(printed["evaluate"])
    assert list(found["protocols"]) == ["other_day", "any_day", "any_day/single_shot"]


def test_it_is_reported(printed):
    page = (printed["out"] / "report.html").read_text()
    assert "two_views on corridor" in page and "other day" in page


def test_it_is_exported_under_its_own_names(printed):
    arrays = load_file(printed["out"] / "a.safetensors")
    assert arrays["backbone.conv1.kernel"].shape == (4, 3, 7, 7)
    assert np.isfinite(arrays["projection.kernel"]).all()


def test_it_is_searched_with(printed):
    (found,) = json.loads(printed["search"])["results"]
    assert len(found["hits"]) > 0
