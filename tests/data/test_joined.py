"""Several data sets as one."""

import numpy as np
import pytest
import raw_pictures
import raw_trees

from sicl_jax import config as configs
from sicl_jax import devices
from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.joined import Rows
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.errors import UsageError, UserError
from sicl_jax.training import loop

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """PRCC with masks; Market-1501 without, and without outfits; Real28, which trains nobody."""
    folder = tmp_path_factory.mktemp("parts")
    for name in ("prcc", "market1501", "real28"):
        tree = raw_trees.WRITERS[name](folder / name)
        masks = tree.masks if name == "prcc" else None
        prepare(Request(name, folder / "data", tree.raw, masks))
    return folder / "data"


FORMS = raw_pictures.forms((32, 16))


@pytest.fixture(scope="module")
def parts(data_dir):
    return [load_dataset(name, data_dir, forms=FORMS) for name in ("prcc", "market1501")]


@pytest.fixture(scope="module")
def joined(data_dir):
    return load_dataset("prcc+market1501", data_dir, forms=FORMS)


def test_identities_and_cameras_are_kept_apart(joined, parts):
    labels = joined.split("train").labels
    first, second = (part.split("train").labels for part in parts)
    count = len(first["identity"])
    for name in ("identity", "camera"):
        mine, theirs = np.split(labels[name], [count])
        np.testing.assert_array_equal(mine, first[name])
        # Numbered on: the same groups under other numbers, none of them the first data set's.
        assert not set(mine) & set(theirs)
        assert len(set(zip(theirs, second[name], strict=True))) == len(set(theirs))
        assert len(set(theirs)) == len(set(second[name]))
    names = joined.split("train").names
    assert len(names) == len(set(names)) == count + len(second["identity"])
    assert names[0].startswith("prcc/") and names[-1].startswith("market1501/")


def test_columns_are_those_that_all_have(joined, parts):
    train = joined.split("train")
    np.testing.assert_array_equal(
        train.pixels["image"][:], np.concatenate([p.split("train").pixels["image"] for p in parts])
    )
    assert parts[0].split("train").all_have("mask") and not train.labels["has_mask"].any()
    assert not train.pixels["mask"][:].any() and (train.labels["clothes"] == -1).all()
    assert joined.notes == (
        "prcc+market1501: clothes is dropped, which market1501 lacks",
        "prcc+market1501: mask is dropped, which market1501 lacks",
    )


def test_tests_are_those_of_the_parts(joined, parts):
    assert set(joined.split_names) == {
        "train", "prcc/query_same", "prcc/query_changed", "prcc/gallery", "prcc/val",
        "market1501/query", "market1501/gallery",
    }  # fmt: skip
    query, alone = joined.split("prcc/query_changed"), parts[0].split("query_changed")
    assert query.names == alone.names and query.all_have("mask")
    np.testing.assert_array_equal(query.labels["identity"], alone.labels["identity"])
    other = load_dataset("market1501+prcc", joined.directory, forms=FORMS)
    assert len({joined.fingerprint, other.fingerprint, *(p.fingerprint for p in parts)}) == 4


def test_names_of_data_sets_that_make_no_sense(data_dir):
    for name in ("prcc+prcc", "prcc+", "+prcc"):
        with pytest.raises(UsageError, match="give each once, with \\+ between"):
            load_dataset(name, data_dir)
    with pytest.raises(UserError, match="no prepared data set ltcc"):
        load_dataset("prcc+ltcc", data_dir)
    notes = load_dataset("real28+prcc", data_dir).notes
    assert notes[-1] == "real28+prcc: real28 has no training images"


def test_rows_are_those_of_the_arrays_together():
    arrays = [np.arange(12).reshape(4, 3), np.arange(12, 18).reshape(2, 3)]
    rows, whole = Rows(arrays), np.concatenate(arrays)
    assert (rows.shape, len(rows), rows.ndim) == (whole.shape, 6, 2)
    for index in (3, -1, slice(1, 5), slice(None), np.array([[5, 0], [4, 3]]), np.array([], int)):
        np.testing.assert_array_equal(rows[index], whole[index])
        np.testing.assert_array_equal(np.take(rows, np.arange(6)[index], axis=0), whole[index])
    for index in (6, np.array([-7])):
        with pytest.raises(IndexError):
            rows[index]


def test_trained_on_together_and_tested_on_each(data_dir, tmp_path, joined):
    images = joined.split("train").pixels["image"]
    assert (devices.fetch(devices.put_rows(images))[: len(images)] == images[:]).all()
    settings = (
        f"data.dir={data_dir}", "data.name=prcc+market1501", "data.image_size=(32, 16)",
        "data.device_budget_gb=1e-9", "model.block=basic", "model.stage_sizes=(1, 1)",
        "model.width=4", "model.pretrained=", "clustering.k1=6", "neighbors.num=2", "epochs=1",
        "steps_per_epoch=1",
        "batch_size=8", "embed_batch_size=8", "evaluate.before=False", "silhouettes=False",
        "evaluate.select_by=market1501/standard",
    )  # fmt: skip
    config = configs.load("sicl_demo", [f"--config.{setting}" for setting in settings])
    said = []
    results = loop.train(config, tmp_path / "run", quiet=True, say=said.append)
    assert any("mask is dropped" in line for line in said)
    assert {"prcc/cloth_changing/all", "market1501/standard"} < set(results)
    assert all(0 < result.mAP <= 1 for result in results.values())
