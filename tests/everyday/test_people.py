"""Who is who: groups, their trust, and what is new among them."""

import json

import numpy as np
import pytest
from PIL import Image

from sicl_jax.errors import UserError
from sicl_jax.report import pages
from sicl_jax.retrieval import people
from sicl_jax.retrieval.folder import View
from sicl_jax.retrieval.index import Entry, GalleryIndex

SETTINGS = people.Settings(k1=5)


def crowd(persons, images, seed=0, spread=0.1):
    """Features of so many persons, images side by side, in 32 dimensions."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(np.eye(32, dtype=np.float32)[:persons], images, axis=0)
    return centres + spread * rng.normal(size=centres.shape).astype(np.float32)


def names(count):
    return [f"{number:03}.png" for number in range(count)]


def test_persons_are_told_apart_and_strangers_stay_alone():
    features = np.concatenate([crowd(4, 5), np.eye(32, dtype=np.float32)[30:32]])
    found = people.group(names(22), features, SETTINGS)
    assert len(found.trust) == 4
    for person in found.trust:
        rows = found.members(person)
        assert len(rows) == 5 and len(set(rows // 5)) == 1
        others = [found.similarity[row] for row in rows]
        assert others == sorted(others, reverse=True)
    assert sorted(found.members(people.ALONE)) == [20, 21]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(found.similarity[0], (unit[0] @ unit[1:5].T).mean(), rtol=1e-5)


def test_trust_falls_where_the_threshold_matters():
    rows = np.arange(4)
    whole, none = np.zeros(6, np.int32), np.full(6, -1, np.int32)
    same = np.array([0, 0, 0, 0, 1, 1], np.int32)
    halves = np.array([0, 0, 1, 1, 2, 2], np.int32)
    assert people._trust(rows, same, same) == 1
    assert people._trust(rows, halves, same) == pytest.approx(2 / 4)  # Both halves overlap by half.
    assert people._trust(rows, same, whole) == pytest.approx(4 / 6)
    assert people._trust(rows, none, same) == pytest.approx(1 / 4)


def test_what_is_new_joins_known_persons_or_makes_new_ones(tmp_path):
    features = crowd(3, 6)
    first = [row for row in range(18) if row % 6 < 4 and row < 12]  # Two persons, four images each.
    files = names(18)
    before = people.group([files[row] for row in first], features[first], SETTINGS)
    people.write(before, tmp_path / "people.csv")
    text = (tmp_path / "people.csv").read_text()
    assert text.splitlines()[0] == "file,person,trust,similarity"
    known = people.read(tmp_path / "people.csv")
    known[files[0]] = 9  # Corrected by hand.
    after = people.group(files, features, SETTINGS, known)
    for row in first:
        assert after.persons[row] == known[files[row]]
    assert after.persons[4] == after.persons[5] == known[files[1]]
    assert after.persons[10] == after.persons[11] == known[files[6]]
    assert set(after.persons[12:]) == {10}  # A number that nobody has had.


@pytest.mark.parametrize("text", ["", "file,person\na.png,somebody\n", "person\n1\n", None])
def test_a_list_that_is_none_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "people.csv").write_text(text)
    if text == "":
        assert people.read(tmp_path / "people.csv") == {}
        return
    with pytest.raises(UserError, match="--add needs what an earlier run has written"):
        people.read(tmp_path / "people.csv")


@pytest.fixture
def index(tmp_path):
    """An index of 3 x 4 pictures and a stranger; its folder."""
    features = np.concatenate([crowd(3, 4), np.eye(32, dtype=np.float32)[31:]])
    paths = [tmp_path / "images" / str(row % 2) / f"{row // 2}.png" for row in range(13)]
    for row, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 32), (19 * row, 80, 120)).save(path)
    about = {"workdir": "run", "step": 1, "model": "0" * 16}
    made = GalleryIndex(about, View("rgb", False), 32)
    names = [path.relative_to(tmp_path) for path in paths]
    made.add(Entry.below(tmp_path, names), features / np.linalg.norm(features, axis=1)[:, None])
    made.save(tmp_path / "index")
    return tmp_path / "index"


def test_the_command_writes_a_list_folders_and_a_page(sicl, index, tmp_path):
    base = ("cluster", "--index", index, "--k1", 5)
    page = tmp_path / "found.html"
    code, out, err = sicl(*base, "--output", tmp_path / "p.csv", "--page", page, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["images"] == 13 and found["alone"] == 1 and len(found["trust"]) == 3
    html = page.read_text()
    assert html.count("<article") == 3 and html.count("<img ") == 13 and 'id="alone"' in html
    code, out, err = sicl(*base, "--folders", tmp_path / "sorted")
    assert code == 0 and "13 images: 3 persons, 1 image alone" in out, err
    folders = sorted(p.name for p in (tmp_path / "sorted").iterdir() if p.is_dir())
    assert folders == ["alone", "person_0001", "person_0002", "person_0003"]
    copies = sorted((tmp_path / "sorted").rglob("*.png"))
    assert len(copies) == 13  # Two files of the same name are two.
    code, _, err = sicl(*base, "--folders", tmp_path / "sorted")
    assert code == 1 and "is not empty; choose a new one, or --add" in err
    code, _, err = sicl(*base, "--folders", tmp_path / "sorted", "--add")
    assert code == 0 and sorted((tmp_path / "sorted").rglob("*.png")) == copies, err
    assert sicl(*base)[0] == 2 and sicl(*base, "--page", page, "--add")[0] == 2


def test_many_groups_are_paged(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "_GROUPS_A_PAGE", 2)
    found = people.group(names(25), crowd(5, 5), SETTINGS)
    found_pages = dict(pages.people_pages(found, "about", tmp_path / "people.html"))
    assert [path.name for path in found_pages] == ["people.html", "people-2.html", "people-3.html"]
    assert [html.count("<article") for html in found_pages.values()] == [2, 2, 1]
    assert 'href="people-3.html"' in found_pages[tmp_path / "people.html"]
