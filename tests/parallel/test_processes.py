"""Two processes on the loopback address train what one process trains."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from sicl_jax import cli, methods, processes
from sicl_jax import config as configs
from sicl_jax.errors import UsageError
from sicl_jax.runs import saved
from sicl_jax.training import loop

_SETTINGS = (
    "data.name=synthetic_people/tiny",
    "data.image_size=(32, 16)",
    "model.stage_sizes=(1,)",
    "model.width=4",
    "model.pretrained=",
    "clustering.k1=8",
    "neighbors.num=2",
    "epochs=2",
    "steps_per_epoch=2",
    "batch_size=16",
    "embed_batch_size=32",
    "evaluate.before=False",
    "evaluate.every=2",
)
_TOLERANCE = 1e-7  # In float64, from banks of float32 features.


@pytest.fixture(scope="module")
def overrides(tiny_data):
    return [f"--config.{setting}" for setting in (*_SETTINGS, f"data.dir={tiny_data}")]


@pytest.fixture(scope="module")
def two_processes(overrides, tmp_path_factory):
    """The workdir of a run of two processes, and what each printed."""
    workdir = tmp_path_factory.mktemp("two") / "run"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-c", "from sicl_jax.cli import main; main()", "train", "--quiet"]
    command += ["--config", "sicl_demo", "--workdir", str(workdir), *overrides]
    command += ["--coordinator", address, "--num_processes", "2", "--process_id"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    options["env"] = os.environ | {"JAX_ENABLE_X64": "1"}
    running = [subprocess.Popen([*command, number], **options) for number in "01"]
    printed = [process.communicate() for process in running]
    for process, (_, errors) in zip(running, printed, strict=True):
        assert process.returncode == 0, errors
    return workdir, [output for output, _ in printed]


@pytest.fixture(scope="module")
def one_process(overrides, tmp_path_factory):
    """The workdir of the same run by this process, fed from the host."""
    workdir = tmp_path_factory.mktemp("one") / "run"
    overrides = [*overrides, "--config.data.device_budget_gb=1e-9"]
    config = configs.load("sicl_demo", overrides)
    with jax.enable_x64(True):
        loop.train(config, workdir, quiet=True, say=lambda line: None)
    return workdir


def _epochs(workdir: pathlib.Path) -> list[dict]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["kind"] == "epoch"]


def test_losses_of_an_epoch(one_process, two_processes):
    one, two = _epochs(one_process)[0], _epochs(two_processes[0])[0]
    assert two["clusters"] == one["clusters"]
    assert two["loss"] == pytest.approx(one["loss"], rel=_TOLERANCE)
    assert len(one["terms"]) >= 6
    # Some are means of cosines and near 0.
    assert two["terms"] == pytest.approx(one["terms"], rel=_TOLERANCE, abs=_TOLERANCE)


def test_weights_after_an_epoch(one_process, two_processes, overrides):
    method = methods.create(configs.load("sicl_demo", overrides))
    with jax.enable_x64(True):
        one, two = (
            saved.load_weights(workdir, "2", lambda _: method)[0]
            for workdir in (one_process, two_processes[0])
        )
    starts, one, two = map(_named, (method.initial_weights(0).params, one.params, two.params))
    for name, expected in one.items():
        scale = max(np.linalg.norm(expected), 1.0)  # Biases begin at 0.
        assert np.linalg.norm(two[name] - expected) < _TOLERANCE * scale, name
        if name.endswith("kernel"):  # So that agreement says something.
            assert np.linalg.norm(expected - starts[name]) > 500 * _TOLERANCE * scale, name


def _named(params) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return {
        name.removesuffix(".value"): np.asarray(leaf)
        for name, (_, leaf) in zip(names, leaves, strict=True)
    }


def test_first_process_alone_prints_and_logs(two_processes):
    workdir, (first, second) = two_processes
    assert "epoch" not in second and "config." not in second
    assert first.count("epoch 1/2:") == 1 and "test after epoch 2" in first
    assert [entry["epoch"] for entry in _epochs(workdir)] == [1, 2]
    assert len(list((workdir / "tensorboard").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 2, 0), "belong together: give all three"),
        (("host:1234", 2, None), "belong together: give all three"),
        (("host", 2, 0), "--coordinator host: give HOST:PORT"),
        (("host:99999", 2, 0), "--coordinator host:99999: give HOST:PORT"),
        (("host:1234", 2, 2), "--process_id 2: with --num_processes 2 the processes are 0 to 1"),
    ],
)
def test_flags_that_make_no_sense(arguments, message):
    with pytest.raises(UsageError, match=message):
        processes.join(*arguments)


def test_flags_are_checked_by_the_command(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--config", "sicl_demo", "--workdir", str(tmp_path), "--process_id=1"])
    assert ended.value.code == 2
    assert "--num_processes and --process_id belong together" in capsys.readouterr().err


def test_a_process_alone_stays_alone(monkeypatch):
    """A Slurm step of one task keeps all devices to itself: JAX would give it but one."""
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: pytest.fail("joined"))
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    processes.join()


def test_slurm_processes_join(monkeypatch):
    asked = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given, **_: asked.append(given))
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    processes.join()
    assert asked == [(None, None, None)]
