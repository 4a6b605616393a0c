"""What is odd about data sets of the standard layouts, and what may be wrong with their lists."""

import numpy as np
import pytest
import raw_trees

from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.prepare import ProblemsError, Request, prepare
from sicl_jax.errors import UserError


@pytest.fixture
def raw(tmp_path):
    """Writes a data set's raw tree: `raw("ccvid")`."""
    return lambda name: raw_trees.WRITERS[name](tmp_path).raw


def split_of(name, raw, split):
    prepare(Request(name, raw.parent / "data", raw))
    return load_dataset(name, raw.parent / "data", forms={}).split(split)


def test_market_1501s_distractors_match_nobody_and_junk_is_left_out(raw):
    gallery = split_of("market1501", raw("market1501"), "gallery")
    names = [name.rpartition("/")[2] for name in gallery.names]
    assert not any(name.startswith("-1") for name in names)
    distractors = [name.startswith("0000") for name in names]
    np.testing.assert_array_equal(gallery.labels["identity"] == -1, distractors)
    assert sum(distractors) == 1


def test_both_releases_of_msmt17(raw):
    folder = raw("msmt17")
    people = set(split_of("msmt17", folder, "query").labels["identity"].tolist())
    assert people == {1041, 1042, 1043}
    for old, new in (("mask_train_v2", "train"), ("mask_test_v2", "test")):
        (folder / old).rename(folder / new)
    prepared = prepare(Request("msmt17", folder.parent / "first", folder))
    assert prepared.store.examples == {"train": 18, "query": 9, "gallery": 9}
    (folder / "mask_train_v2").mkdir()
    (folder / "mask_test_v2").mkdir()
    with pytest.raises(UserError, match="must hold folders train and test or mask_train_v2 and"):
        prepare(Request("msmt17", folder.parent / "both", folder))


def test_last_knows_outfits_in_training_alone(raw):
    folder = raw("last")
    assert (split_of("last", folder, "train").labels["clothes"] >= 0).all()
    gallery = load_dataset("last", folder.parent / "data", forms={}).split("gallery")
    assert (gallery.labels["clothes"] == -1).all() and (gallery.labels["camera"] == -1).all()


def test_ccvids_frames_bear_their_tracklet(raw):
    train = split_of("ccvid", raw("ccvid"), "train")
    folders = [name.rpartition("/")[0] for name in train.names]
    assert len(set(folders)) == len(set(train.labels["tracklet"].tolist())) == 9
    assert set(train.labels["camera"].tolist()) == {1, 2, 13}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("session1/009_01\t009\tu0_l0\n", "it holds no frames"),
        ("../../etc\t009\tu0\n", "line 10 is not `session/folder person clothes`"),
        ("session1/001_01\t001\tu0\n", "line 10 again"),
    ],
)
def test_ccvids_lists_of_what_is_not_there(raw, line, message):
    folder = raw("ccvid")
    text = (folder / "train.txt").read_text()
    (folder / "train.txt").write_text(text + line)
    with pytest.raises(ProblemsError) as caught:
        prepare(Request("ccvid", folder.parent / "data", folder))
    (problem,) = caught.value.problems
    assert message in problem.detail


def test_an_empty_list_of_ccvid(raw):
    folder = raw("ccvid")
    (folder / "query.txt").write_text("\n")
    with pytest.raises(UserError, match="query.txt lists no frames that are there"):
        prepare(Request("ccvid", folder.parent / "data", folder))


def test_ltccs_list_says_who_changes_clothes(raw, tmp_path):
    folder = raw("ltcc")
    (folder / "info/cloth-change_id_test.txt").write_text("4\n6\n")
    prepared = prepare(Request("ltcc", tmp_path / "listed", folder))
    assert any("The list is what counts" in warning for warning in prepared.warnings)
    assert load_dataset("ltcc", tmp_path / "listed").changing_identities == [4, 6]
    (folder / "info/cloth-change_id_test.txt").unlink()
    prepare(Request("ltcc", tmp_path / "unlisted", folder))
    assert load_dataset("ltcc", tmp_path / "unlisted").changing_identities is None
