"""Preparing in several processes: the same data set, and no process outlives its parent."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tfds_builders.reid import workers
from tfds_builders.reid.problems import RawDataError


@pytest.fixture
def processes(monkeypatch):
    """Makes even small jobs run in processes."""
    monkeypatch.setattr(workers, "_WORTH_PROCESSES", 1)


def test_processes_prepare_the_same(prepare_prcc, processes, monkeypatch):  # noqa: ARG001
    parallel = prepare_prcc(cores=2, overwrite=True).store.metadata
    monkeypatch.setattr(workers, "_WORTH_PROCESSES", 10**9)
    assert prepare_prcc(overwrite=True).store.metadata == parallel


def test_results_come_in_order(processes):  # noqa: ARG001
    with workers.parallel_map(100, cores=2) as run:
        assert list(run(abs, range(-50, 0))) == list(range(50, 0, -1))


def test_a_worker_that_dies_is_told_of(processes):  # noqa: ARG001
    with (
        pytest.raises(RawDataError, match="a worker process died"),
        workers.parallel_map(100, cores=2) as run,
    ):
        list(run(os._exit, [1]))


_PROGRAM = """
import os, time
from tfds_builders.reid import workers

workers._WORTH_PROCESSES = 1

def tell(number):
    time.sleep(0.2)
    return os.getpid()

if __name__ == "__main__":
    with workers.parallel_map(100, cores=2) as run:
        print(*set(run(tell, range(8))), flush=True)
        time.sleep(60)
"""


def test_workers_end_with_their_killed_parent(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    parent = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    children = [pathlib.Path("/proc", pid) for pid in parent.stdout.readline().split()]
    assert children
    assert all(child.exists() for child in children)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while any(child.exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
