"""Runs and indexes from somebody else: their files load, or are refused in one line."""

import json
import pathlib
import pickle
import shutil

import numpy as np
import pytest
from damaging import checkpoint, copy_of, files_of_each_kind
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import Call, changed_bytes, changed_json

import sicl_jax
from sicl_jax.errors import UserError
from sicl_jax.report import run_report
from sicl_jax.report.curves import curves_section
from sicl_jax.retrieval.folder import View
from sicl_jax.retrieval.index import Entry, GalleryIndex
from sicl_jax.runs import integrity, metrics, provenance, saved
from sicl_jax.runs.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def stranger(reference, tmp_path_factory) -> pathlib.Path:
    """A run with one checkpoint, whose manifest is always right; not to be left changed."""
    run = copy_of(reference, tmp_path_factory.mktemp("stranger"))
    shutil.rmtree(run / "checkpoints/best")
    shutil.rmtree(checkpoint(run, "latest", 14))
    return run


def restore(run: pathlib.Path, abstract_state, method) -> None:
    """Reads a checkpoint in both ways, or has it refused in one line."""
    integrity.write_manifest(checkpoint(run, "latest", 16))
    checkpoints = Checkpoints(run)
    try:
        found = checkpoints.restore(abstract_state, pytest.fail)
        assert found.progress.epoch >= 0
    except UserError as error:
        assert str(error).isprintable()
    finally:
        checkpoints.close()
    try:
        saved.load_weights(run, "latest", lambda _: method)
        saved.load_memory(run, "latest", method.pseudo_labels)
    except UserError as error:
        assert str(error).isprintable()


def changed(file: pathlib.Path, content: bytes, check) -> None:
    """Calls `check` while a file holds something else."""
    whole = file.read_bytes()
    file.write_bytes(content)
    try:
        check()
    finally:
        file.write_bytes(whole)


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_any_metadata_of_a_checkpoint(stranger, abstract_state, method, data):
    folder = checkpoint(stranger, "latest", 16)
    names = ["run/metadata", "run/metadata", "state/_METADATA", "state/_sharding"]
    file = folder / data.draw(st.sampled_from([*names, "state/array_metadatas/process_0"]))
    content = data.draw(changed_json(json.loads(file.read_text())))
    text = json.dumps(content).encode()
    changed(file, text, lambda: restore(stranger, abstract_state, method))


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_any_bytes_of_a_checkpoint(stranger, abstract_state, method, data):
    files = files_of_each_kind(checkpoint(stranger, "latest", 16))
    del files[integrity.MANIFEST]
    file = files[data.draw(st.sampled_from(sorted(files)))]
    content = data.draw(changed_bytes(file.read_bytes()))
    changed(file, content, lambda: restore(stranger, abstract_state, method))


def test_pickles_in_a_checkpoint_are_not_opened(stranger, abstract_state, method):
    content = pickle.dumps(Call())
    with pytest.raises(SystemExit, match="unpickled"):
        pickle.loads(content)
    folder = checkpoint(stranger, "latest", 16)
    files = files_of_each_kind(folder)
    del files[integrity.MANIFEST]
    for file in files.values():
        changed(file, content, lambda: restore(stranger, abstract_state, method))
    for name in ("checkpoint", "state/checkpoint", "state/pytree.pkl", "state/tree.pickle"):
        (folder / name).write_bytes(content)
    restore(stranger, abstract_state, method)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_config(stranger, data):
    file = stranger / "config.json"
    content = data.draw(changed_json(json.loads(file.read_text())))

    def load():
        try:
            sicl_jax.load(stranger)
        except UserError as error:
            assert str(error).isprintable()

    changed(file, json.dumps(content).encode(), load)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_log(stranger, data):
    file = stranger / "metrics.jsonl"
    whole = file.read_bytes()
    lines = whole.splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    lines[number] = json.dumps(data.draw(changed_json(json.loads(lines[number])))).encode()
    content = data.draw(st.just(b"\n".join(lines) + b"\n") | changed_bytes(whole))

    def read():
        try:
            provenance.changes(stranger, {"jax": "1"})
            log = metrics.read_log(stranger)
            assert log.epochs_done <= 1e12
            assert curves_section(log)
            assert run_report._summary(log)
        except UserError as error:
            assert str(error).isprintable()

    changed(file, content, read)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *(
            ("test", "cloth_changing/single_shot", value)
            for value in (None, [], 0.5, {}, {"mAP": None, "rank1": 0.5})
        ),
        ("test", "seconds", 9e13),  # Beyond what a duration can be.
        ("epoch", "seconds_training", 9e13),
        ("epoch", "seconds_clustering", -1.0),
    ],
)
def test_figures_that_are_none(stranger, kind, name, value):
    file = stranger / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    number = next(n for n, line in enumerate(lines, 1) if line["kind"] == kind)
    assert name in lines[number - 1]
    lines[number - 1][name] = value
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()

    def read():
        with pytest.raises(UserError, match=f"metrics.jsonl: line {number} is damaged"):
            metrics.read_log(stranger)

    changed(file, content, read)


# ---- an index ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> pathlib.Path:
    """The folder of a small index."""
    folder = tmp_path_factory.mktemp("index")
    model = {"workdir": "run", "step": 3, "epoch": 1, "model": "0" * 16}
    index = GalleryIndex(model, View(), 4)
    index.add([Entry(f"/{row}.jpg", 1, 2) for row in range(4)], np.eye(4, dtype=np.float32))
    index.save(folder)
    return folder


def search(folder: pathlib.Path) -> None:
    """Opens an index and searches it, or has it refused in one line."""
    try:
        index = GalleryIndex.open(folder)
        hits = index.search(np.ones((1, 4), np.float32), 2)
        assert all(isinstance(index.entries[row].path, str) for row in hits.rows[0] if row >= 0)
        assert {"workdir", "step", "model"} <= index.model.keys()
    except UserError as error:
        assert str(error).isprintable()


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_description_of_an_index(index, data):
    file = index / data.draw(st.sampled_from(["index.json", "entries-1.json"]))
    content = data.draw(changed_json(json.loads(file.read_text())))
    changed(file, json.dumps(content).encode(), lambda: search(index))


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_bytes_of_an_index(index, data):
    file = index / data.draw(st.sampled_from(["index.json", "entries-1.json", "vectors-1.faiss"]))
    changed(file, data.draw(changed_bytes(file.read_bytes())), lambda: search(index))
