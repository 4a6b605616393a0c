"""Preparing that is killed, runs out of disk or is started twice."""

import fcntl
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.errors import UserError

KILLS = 20

# Imports once and forks for each line, so that a child begins with the work itself.
_PROGRAM = """
import os, pathlib, resource, sys
import tensorflow_datasets
import tfds_builders.prcc.prcc_dataset_builder
from sicl_jax.data.prepare import Request, prepare
raw, masks, data, limit = sys.argv[1:]
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child:
        print(child, flush=True)
        sys.stdin.readline()  # Until then the child keeps its number, even when it has ended.
        print(os.waitpid(child, 0)[1], flush=True)
        continue
    if int(limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    try:
        prepare(Request("prcc", pathlib.Path(data), pathlib.Path(raw), pathlib.Path(masks)))
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
"""


class Preparing:
    """A process that prepares in a child of its own, which can be killed, as often as asked."""

    def __init__(self, prcc, data_dir, file_limit=0):
        arguments = [prcc.raw, prcc.masks, data_dir, str(file_limit)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout.readline() == "ready\n"

    def run(self, kill_after: float | None = None) -> int:
        """Runs once; gives the status that `os.waitpid` gives."""
        self._say()
        child = int(self._process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        self._say()
        return int(self._process.stdout.readline())

    def _say(self) -> None:
        print(file=self._process.stdin, flush=True)

    def close(self) -> str:
        """Ends the process; gives what was written on standard error."""
        return self._process.communicate()[1]


def test_killed_at_random_moments(prcc, tmp_path):
    """After any kill there is a whole data set or none, and a rerun completes it."""
    first = Preparing(prcc, tmp_path / "reference")
    started = time.monotonic()
    assert first.run() == 0
    duration = time.monotonic() - started
    first.close()
    reference = load_dataset("prcc", tmp_path / "reference").fingerprint

    data_dir = tmp_path / "data"
    preparing = Preparing(prcc, data_dir)
    chance = random.Random(0)
    whole = 0
    for _ in range(KILLS):
        preparing.run(kill_after=chance.uniform(0, duration))
        if (data_dir / "prcc/1.0.0").exists():
            whole += 1
            assert load_dataset("prcc", data_dir).fingerprint == reference
            (data_dir / "prcc/1.0.0").rename(tmp_path / f"whole{whole}")
    assert whole < KILLS
    assert preparing.run() == 0
    preparing.close()

    assert load_dataset("prcc", data_dir).fingerprint == reference
    assert [path.name for path in data_dir.iterdir() if path.is_dir()] == ["prcc"]
    assert [path.name for path in (data_dir / "prcc").iterdir()] == ["1.0.0"]


def test_disk_full(prcc, tmp_path):
    """A limit on the size of files stands in for a full disk: one line, and nothing left."""
    preparing = Preparing(prcc, tmp_path / "data", file_limit=50_000)
    assert preparing.run() != 0
    (error,) = preparing.close().splitlines()
    assert error.startswith("UserError: cannot write")
    assert error.endswith("is the disk full?")
    assert not (tmp_path / "data/prcc").exists()
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".prcc.lock"]
    assert not prepare(Request("prcc", tmp_path / "data", prcc.raw, prcc.masks)).was_there


def test_two_at_once(prcc, tmp_path):
    request = Request("prcc", tmp_path / "data", prcc.raw, prcc.masks)
    request.data_dir.mkdir()
    with (request.data_dir / ".prcc.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="data: in use by process .*another --data_dir"):
            prepare(request)
    prepare(request)


@pytest.mark.parametrize("damage", ["cut", "flipped", "removed", "info"])
def test_damaged_data_sets_are_not_used(prepare_prcc, damage):
    directory = prepare_prcc().store.directory
    shard = next(directory.glob("prcc-train*"))
    data = bytearray(shard.read_bytes())
    if damage == "cut":
        shard.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[3000] ^= 0xFF
        shard.write_bytes(data)
    elif damage == "removed":
        shard.unlink()
    else:
        (directory / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match="damaged|no prepared data set") as caught:
        load_dataset("prcc", directory.parents[1]).split("train")
    assert "\n" not in str(caught.value)
    assert prepare_prcc(overwrite=True).store.directory == directory
    assert len(load_dataset("prcc", directory.parents[1]).split("train")) > 0
