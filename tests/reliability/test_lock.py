"""One run at a time in a workdir."""

import errno
import fcntl
import json
import os
import re
import socket
import subprocess
import sys

import pytest

from sicl_jax.data import lock
from sicl_jax.errors import UserError

_HOLD = """
import pathlib, sys
from sicl_jax.data import lock
with lock.hold(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_run_is_refused_by_name(other, tmp_path):
    with pytest.raises(UserError) as caught, lock.hold(tmp_path):
        pass
    where = re.escape(f"in use by process {other.pid} on {socket.gethostname()};")
    assert re.search(where, str(caught.value))
    other.communicate("")
    with lock.hold(tmp_path, say=pytest.fail):
        pass


def test_a_killed_run_leaves_no_lock(other, tmp_path):
    other.kill()
    other.wait()
    said = []
    with lock.hold(tmp_path, said.append):
        pass
    assert re.search(f"process {other.pid} on .* had not finished", said[0])
    with lock.hold(tmp_path, say=pytest.fail):
        pass


def test_the_lock_is_given_back_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), lock.hold(tmp_path):
        raise ZeroDivisionError
    with lock.hold(tmp_path, say=pytest.fail):
        pass


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"process": "x"}', "\0" * 50, "9" * 5000])
def test_whatever_is_in_the_file_a_free_lock_is_taken(tmp_path, text):
    (tmp_path / lock.LOCK_FILE).write_text(text)
    with lock.hold(tmp_path):
        owner = json.loads((tmp_path / lock.LOCK_FILE).read_text())
        assert owner == {"host": socket.gethostname(), "process": os.getpid()}


@pytest.fixture
def _no_locks(monkeypatch):
    """A file system that knows no locks, as some network ones."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("_no_locks")
def test_without_locks_the_text_counts(tmp_path):
    with lock.hold(tmp_path), pytest.raises(UserError, match="in use"), lock.hold(tmp_path):
        pass
    with lock.hold(tmp_path, say=pytest.fail):
        pass


@pytest.mark.usefixtures("_no_locks")
def test_without_locks_dead_processes_of_this_host_do_not_count(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = {"host": socket.gethostname(), "process": ended.pid}
    (tmp_path / lock.LOCK_FILE).write_text(json.dumps(here))
    said = []
    with lock.hold(tmp_path, said.append):
        pass
    assert f"process {ended.pid}" in said[0]
    (tmp_path / lock.LOCK_FILE).write_text(json.dumps(here | {"host": "elsewhere"}))
    with pytest.raises(UserError, match="on elsewhere"), lock.hold(tmp_path):
        pass


def test_training_is_refused_while_another_runs(trainer, other, tmp_path):
    ended = trainer.train(tmp_path)
    assert ended.code == 1
    (line,) = ended.errors.splitlines()
    assert f"in use by process {other.pid} on {socket.gethostname()}" in line
    assert [path.name for path in tmp_path.iterdir()] == [lock.LOCK_FILE]
