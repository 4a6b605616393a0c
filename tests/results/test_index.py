"""The index on disk: search against brute force, changes, damage."""

import functools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sicl_jax.data import lock
from sicl_jax.errors import UserError
from sicl_jax.retrieval.folder import View
from sicl_jax.retrieval.index import Entry, GalleryIndex, is_index

MODEL = {"workdir": "runs/demo", "step": 7, "epoch": 1, "model": "0123456789abcdef"}


def unit_rows(count: int, size: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def entries(names) -> list[Entry]:
    return [Entry(f"/crops/{name}.jpg", 10, 20) for name in names]


def index_of(count: int, size: int = 16) -> GalleryIndex:
    index = GalleryIndex(MODEL, View("rgb", False), size)
    index.add(entries(range(count)), unit_rows(count, size))
    return index


def test_search_is_brute_force():
    index, queries = index_of(200), unit_rows(9, 16, seed=1)
    hits = index.search(queries, 10)
    similarity = queries @ unit_rows(200, 16).T
    order = np.argsort(-similarity, axis=1)[:, :10]
    np.testing.assert_array_equal(hits.rows, order)
    np.testing.assert_allclose(
        hits.similarities, np.take_along_axis(similarity, order, 1), atol=1e-6
    )
    assert index_of(3).search(queries, 10).rows.shape == (9, 3)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sets(st.integers(0, 11), min_size=1, max_size=5)), max_size=6
    )
)
def test_any_changes_leave_what_a_dictionary_would_hold(changes):
    index, held = GalleryIndex(MODEL, View("rgb", False), 8), {}
    for turn, (adds, names) in enumerate(changes):
        of_turn = entries(sorted(names))
        if adds:
            vectors = unit_rows(len(names), 8, seed=turn)
            index.add(of_turn, vectors)
            held |= {e.path: v for e, v in zip(of_turn, vectors, strict=True)}
        else:
            removed = index.remove({e.path for e in of_turn})
            assert removed == sum(held.pop(e.path, None) is not None for e in of_turn)
    assert {e.path for e in index.entries} == held.keys() and len(index) == len(held)
    for path, vector in held.items():
        hits = index.search(vector[None], 1)
        assert index.entries[hits.rows[0, 0]].path == path


def test_past_a_size_the_search_is_approximate_and_still_finds():
    rng = np.random.default_rng(0)
    centres = unit_rows(100, 32)
    vectors = centres[np.arange(2000) % 100] + 0.05 * rng.normal(size=(2000, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    index = GalleryIndex(MODEL, View("rgb", False), 32)
    index.add(entries(range(900)), vectors[:900], flat_limit=1000)
    assert index.is_exact
    index.add(entries(range(900, 2000)), vectors[900:], flat_limit=1000)
    assert not index.is_exact
    exact = np.argsort(-(vectors[:200] @ vectors.T), axis=1)[:, :10]
    found = index.search(vectors[:200], 10).rows
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)])
    assert recall > 0.9
    index.remove({e.path for e in entries(range(0, 2000, 2))})
    assert len(index) == 1000
    hits = index.search(vectors[1:2], 5)
    assert index.entries[hits.rows[0, 0]].path == "/crops/1.jpg"


def test_an_index_comes_back_from_disk(tmp_path):
    index, folder = index_of(50), tmp_path / "index"
    index.save(folder)
    index.remove({"/crops/3.jpg"})
    index.save(folder)
    back = GalleryIndex.open(folder)
    assert back.entries == index.entries and back.model == MODEL and back.view == View("rgb", False)
    queries = unit_rows(5, 16, seed=3)
    np.testing.assert_array_equal(back.search(queries, 7).rows, index.search(queries, 7).rows)
    assert len(list(folder.iterdir())) == 3  # The files of the first state are gone.


@pytest.mark.parametrize("flat_limit", [10**6, 300])
def test_additions_are_written_alone(tmp_path, flat_limit):
    rows = unit_rows(400, 16)
    index = GalleryIndex(MODEL, View("rgb", False), 16)
    index.add(entries(range(380)), rows[:380], flat_limit=flat_limit)
    index.save(tmp_path)
    about = json.loads((tmp_path / "index.json").read_text())
    assert about.pop("more") == [] and about["format"] == 1
    (tmp_path / "index.json").write_text(json.dumps(about))  # As it was written before.
    pairs = []
    for row in range(380, 400):
        if row % 3:
            index = GalleryIndex.open(tmp_path)
        index.add(entries([row]), rows[row : row + 1], flat_limit=flat_limit)
        index.save(tmp_path)
        held = GalleryIndex.open(tmp_path)
        assert held.entries == index.entries and held.is_exact == (flat_limit > 400)
        np.testing.assert_array_equal(held.features(), rows[: row + 1])
        np.testing.assert_array_equal(held.search(rows[:9], 9).rows, index.search(rows[:9], 9).rows)
        pairs.append(len([*tmp_path.glob("vectors-*")]))
        assert len([*tmp_path.iterdir()]) == 1 + 2 * pairs[-1]
    assert pairs == [*range(2, 18), *range(1, 5)]  # After sixteen all was written anew.
    held.remove({"/crops/7.jpg"})
    held.save(tmp_path)
    assert GalleryIndex.open(tmp_path).entries == entries([*range(7), *range(8, 400)])
    assert len([*tmp_path.iterdir()]) == 3


def test_damage_is_told(tmp_path):
    with pytest.raises(UserError, match="no index here"):
        GalleryIndex.open(tmp_path)
    folder = tmp_path / "index"
    index_of(50).save(folder)
    about = json.loads((folder / "index.json").read_text())
    vectors = folder / about["vectors"]
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged"):
        GalleryIndex.open(folder)
    vectors.write_bytes(whole)
    (folder / about["entries"]).write_text("[]")
    with pytest.raises(UserError, match="do not belong together"):
        GalleryIndex.open(folder)
    (folder / "index.json").write_text(json.dumps(about | {"format": 9}))
    with pytest.raises(UserError, match="format 9"):
        GalleryIndex.open(folder)


def test_files_outside_the_folder_are_not_read(tmp_path):
    folder = tmp_path / "index"
    index_of(5).save(folder)
    about = json.loads((folder / "index.json").read_text())
    (tmp_path / "entries.json").write_text((folder / about["entries"]).read_text())
    about["entries"] = "../entries.json"
    (folder / "index.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="damaged"):
        GalleryIndex.open(folder)


def test_two_writers(tmp_path):
    hold = functools.partial(lock.hold, tmp_path, flag="--index")
    with hold(), pytest.raises(UserError, match="in use by .* choose another --index"), hold():
        pass
    with hold():
        assert not is_index(tmp_path)
