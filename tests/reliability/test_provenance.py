"""What a run was made with is on record, and its data may not change."""

import importlib.metadata
import json
import pathlib
import re
import subprocess

import pytest
from PIL import Image

import sicl_jax
from sicl_jax import config as configs
from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.runs import workdir
from sicl_jax.runs.provenance import changes


def start(run: pathlib.Path) -> dict:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[0])


def test_the_first_line_says_what_a_run_was_made_with(reference, people):
    line = start(reference)
    assert (line["kind"], line["step"]) == ("start", 0)
    assert line["sicl_jax"] == sicl_jax.__version__
    for package in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy"):
        assert line[package] == importlib.metadata.version(package)
    assert line["config"] == configs.digest(workdir.read_config(reference))
    assert line["dataset"] == load_dataset("synthetic_people/tiny", people).fingerprint
    assert line["devices"] == 1 and line["device"] and re.match(r"3\.\d+", line["python"])


def test_the_first_line_names_the_commit(reference):
    root = pathlib.Path(sicl_jax.__file__).parent.parent
    if not (root / ".git").exists():
        pytest.skip("the package does not run from a checkout")
    commit = start(reference)["git_commit"].removesuffix("-dirty")
    kind = subprocess.run(
        ["git", "-C", root, "cat-file", "-t", commit], capture_output=True, text=True, check=True
    )
    assert kind.stdout == "commit\n" and len(commit) == 40


def test_what_differs_is_told_when_a_run_goes_on(reference):
    facts = {name: value for name, value in start(reference).items() if name != "kind"}
    assert changes(reference, facts) == []
    assert changes(reference, facts | {"jax": "0.0.1"}) == [f"jax: {facts['jax']} -> 0.0.1"]


def test_data_that_have_changed_are_refused(trainer, tmp_path):
    """The same files prepared again are the same data; one other pixel makes them others."""
    crops, data, run = tmp_path / "crops", tmp_path / "data", tmp_path / "run"
    picture = Image.new("RGB", (16, 32), "red")
    (crops / "1").mkdir(parents=True)
    for number in range(8):
        picture.save(crops / f"1/{number}.png")

    def train():
        """Begins a run, or goes on with it, and is killed after its first checkpoint."""
        request = Request("person_folder", data, crops, overwrite=True)
        fingerprints.append(prepare(request).store.metadata["fingerprint"])
        settings = {"data.dir": str(data), "data.name": "person_folder", "silhouettes": "False"}
        return trainer.train(run, strike="clustering", occurrence=2, settings=settings)

    fingerprints: list[str] = []
    assert train().code == -9  # The workdir is this run's from now on.
    assert train().code == -9
    picture.putpixel((3, 4), (255, 1, 0))
    picture.save(crops / "1/0.png")
    ended = train()
    assert ended.code == 1
    (line,) = ended.errors.splitlines()
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    assert line == (
        f"sicl-jax: error: {run}: the data set person_folder has changed since this run began "
        f"(fingerprint {fingerprints[0]} -> {fingerprints[2]}): choose another --workdir"
    )
    assert json.loads((run / "dataset.json").read_text()) == {"fingerprint": fingerprints[0]}
