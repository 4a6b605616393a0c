"""Searches while images are added, judged by brute force; marks and additions under kill -9."""

import contextlib
import http.client
import itertools
import json
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from serving import client_of

import sicl_jax
from sicl_jax.data.pictures import list_images
from sicl_jax.retrieval import build
from sicl_jax.retrieval.folder import View
from sicl_jax.retrieval.index import Entry, GalleryIndex
from sicl_jax.serve.gallery import image_id
from sicl_jax.serve.marks import Marks


def unit_rows(count, size, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def entries(count, first=0):
    return [Entry(f"/crops/cam{n % 100}/{n}.jpg", 10, 20) for n in range(first, first + count)]


def test_searches_while_images_are_added(serve, index_folder, monkeypatch):
    monkeypatch.setattr("sicl_jax.serve.gallery._SECONDS_BETWEEN_LOOKS", 0.01)
    before = GalleryIndex.open(index_folder)
    size, old = before.features().shape[1], len(before)
    vectors = np.concatenate([before.features(), unit_rows(200, size)])
    paths = [e.path for e in before.entries] + [e.path for e in entries(200)]
    number = {image_id(path): row for row, path in enumerate(paths)}
    similarity = vectors @ vectors.T
    client = client_of(serve())
    sizes_seen, done = set(), threading.Event()

    def add():
        for first in range(0, 200, 20):
            index = GalleryIndex.open(index_folder)
            index.add(entries(20, first), vectors[old + first : old + first + 20])
            index.save(index_folder)
        done.set()

    def search(seed):
        rng = np.random.default_rng(seed)
        while True:
            last = done.is_set()
            row = int(rng.integers(old))
            answer = client.post("/api/search", json={"same": [image_id(paths[row])], "top": 1000})
            found = [number[hit["id"]] for hit in answer.json()["results"]]
            held = sorted([*found, row])
            # What was there at one moment: the old ones and whole additions, none of them lost.
            assert held == list(range(len(held))) and (len(held) - old) % 20 == 0
            order = similarity[row, found]
            assert (np.diff(order) < 1e-6).all()
            sizes_seen.add(len(held))
            if last:
                return

    failures = []

    def guarded(work, *given):
        try:
            work(*given)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(search, seed)) for seed in range(8)]
    threads.append(threading.Thread(target=guarded, args=(add,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    time.sleep(0.02)
    client.get("/api/health")
    assert client.get("/api/health").json()["images"] == old + 200
    assert len(sizes_seen) > 2  # It was really searched between additions.


_MARK = """
import json, pathlib, sys
from sicl_jax.serve.marks import Marks
marks = Marks(pathlib.Path(sys.argv[1]))
for number in range(10**6):
    person = marks.mark(None, [], [f"/crops/{number}.jpg"], "same")
    print(json.dumps([person, number]), flush=True)
"""

_ADD = """
import pathlib, sys
import numpy as np
from test_serve_load import entries, unit_rows
from sicl_jax.retrieval.folder import View
from sicl_jax.retrieval import build
from sicl_jax.retrieval.index import GalleryIndex, is_index
folder = pathlib.Path(sys.argv[1])
index = GalleryIndex({"workdir": "w", "step": 1, "model": "0"}, View("rgb", False), 64)
for first in range(0, 10**6, 50):
    index.add(entries(50, first), unit_rows(50, 64, seed=first))
    index.save(folder)
    print(first + 50, flush=True)
"""


def killed(code, folder, lines):
    """What a program had told before it was killed, in the middle of something else."""
    here = pathlib.Path(__file__).parent
    program = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(here)!r})\n{code}", folder],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    told = [program.stdout.readline() for _ in range(lines)]
    program.send_signal(signal.SIGKILL)
    told += program.stdout.readlines()
    assert program.wait() == -signal.SIGKILL
    return [json.loads(line) for line in told if line.endswith("\n")]


def test_marks_survive_a_kill(tmp_path):
    told = killed(_MARK, tmp_path, 20)
    held = Marks(tmp_path).all()
    for person, number in told:
        assert held[person].same == (f"/crops/{number}.jpg",)
    assert len(held) in (len(told), len(told) + 1)
    Marks(tmp_path).mark(None, [], ["/crops/new.jpg"], "same")
    assert len(Marks(tmp_path).all()) == len(held) + 1


def test_additions_survive_a_kill(tmp_path):
    told = killed(_ADD, tmp_path, 4)
    index = GalleryIndex.open(tmp_path)
    assert len(index) in (told[-1], told[-1] + 50)
    for first in range(0, len(index), 50):
        np.testing.assert_array_equal(
            index.features()[first : first + 50], unit_rows(50, 64, seed=first)
        )


_SERVE = [sys.executable, "-c", "from sicl_jax.cli import main; main()", "serve", "--port", "0"]


def ask(address, path, **asked):
    """What a server of this machine answers."""
    server = http.client.HTTPConnection(address, timeout=60)
    headers = {"X-Sicl-Jax": "1", "Content-Type": "application/json"}
    server.request("POST" if asked else "GET", path, json.dumps(asked) if asked else None, headers)
    answer = server.getresponse()
    assert answer.status == 200, answer.read()
    return json.loads(answer.read())


@contextlib.contextmanager
def serving(folder):
    """A server's process, and where it listens."""
    command = [*_SERVE, "--index", folder]
    program = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        started = next(line for line in program.stderr if line.startswith("http://"))
        yield program, started.split()[0].removeprefix("http://")
    finally:
        program.kill()
        program.wait()


def test_a_server_that_is_killed_while_images_and_marks_are_added(crops, tmp_path):
    model, names = sicl_jax.load("drawn-people"), list_images(crops)
    index = GalleryIndex(model.about(), View("rgb", False), 64)
    index.add(Entry.below(crops, names), unit_rows(len(names), 64))
    index.save(tmp_path)
    ids = [image_id(entry.path) for entry in index.entries]
    told = {}  # The person that an image was given to last.
    with serving(tmp_path) as (program, address):
        health = ask(address, "/api/health")
        assert health["status"] == "ok" and health["model"] == model.fingerprint
        with pytest.raises((OSError, http.client.HTTPException)):
            for image in itertools.cycle(ids):
                index.add(entries(5, 5 * len(index)), unit_rows(5, 64, seed=len(index)))
                index.save(tmp_path)
                under_way = image
                told[image] = ask(address, "/api/mark", images=[image], mark="same")["id"]
                if len(told) == 5:
                    threading.Timer(0.01, program.kill).start()
        assert program.wait() == -signal.SIGKILL
    told.pop(under_way, None)  # It may have been moved without that having been told.
    with serving(tmp_path) as (program, address):
        assert ask(address, "/api/health")["images"] == len(index)
        for image, person in told.items():
            held = ask(address, f"/api/people/{person}")["images"]
            assert [each["id"] for each in held] == [image]
        program.terminate()
        assert program.wait() == 0 and not (tmp_path / ".serve.lock").read_text()


def test_an_index_that_was_stopped_goes_on(model, crops, made_index, tmp_path, monkeypatch):
    real, calls = build.embed_folder, []

    def stopped(*given, **more):
        calls.append(more["names"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given, **more)

    monkeypatch.setattr(build, "embed_folder", stopped)
    with pytest.raises(KeyboardInterrupt):
        build.add_folder(model, crops, tmp_path / "index", portion=5)
    assert len(GalleryIndex.open(tmp_path / "index")) == 10
    changes = build.add_folder(model, crops, tmp_path / "index", portion=5)
    assert (changes.added, changes.kept) == (14, 10)
    assert sorted(sum(calls[:2] + calls[3:], [])) == sorted(
        set(sum(calls, []))
    )  # None of them twice.
    whole, parts = GalleryIndex.open(made_index), GalleryIndex.open(tmp_path / "index")
    assert whole.entries == parts.entries
    np.testing.assert_allclose(whole.features(), parts.features(), atol=1e-5)
