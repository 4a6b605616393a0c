"""Prepared data sets from strangers: whatever their files hold, one line, and no code of theirs."""

import json
import pathlib
import pickle
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import Call, changed_bytes, changed_json

from sicl_jax.data import card
from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.pixels import Form
from sicl_jax.data.store import Store
from sicl_jax.errors import UserError

NAME = "synthetic_people/tiny"
BELOW = "synthetic_people/tiny/1.0.0"


@pytest.fixture
def copied(people, tmp_path) -> pathlib.Path:
    """The folder of a small data set, to be damaged."""
    shutil.copytree(people / BELOW, tmp_path / BELOW, ignore=shutil.ignore_patterns("arrays"))
    return tmp_path / BELOW


def load(directory: pathlib.Path):
    """All that is read of a data set before training."""
    dataset = load_dataset(
        NAME,
        directory.parents[2],
        forms={"image": Form((8, 4)), "mask": Form((8, 4), mode="silhouette")},
    )
    split = dataset.split("gallery")
    _ = split.pixels["image"], split.pixels["mask"]
    return split


def refused(directory: pathlib.Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(directory)
    assert str(caught.value).isprintable()


def set_in(file: pathlib.Path, *path: str | int, to) -> None:
    """Changes one value of a JSON file."""
    content = inner = json.loads(file.read_text())
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    file.write_text(json.dumps(content))


# ---- code ----------------------------------------------------------------------------------

HOSTILE = "hostile_feature"


@pytest.fixture
def hostile_module(tmp_path, monkeypatch):
    """A module within reach that leaves a trace when it is imported."""
    (tmp_path / f"{HOSTILE}.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    assert HOSTILE not in sys.modules


@pytest.mark.usefixtures("hostile_module")
@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize(
    "feature",
    [
        {"pythonClassName": f"{HOSTILE}.Image", "text": {}},
        {"python_class_name": f"{HOSTILE}.Image", "text": {}},
        {"type": f"{HOSTILE}.Image", "content": {}},
        {
            "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
            "featuresDict": {
                "features": {"image": {"pythonClassName": f"{HOSTILE}.Image", "text": {}}}
            },
        },
        {
            "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
            "jsonFeature": {
                "json": json.dumps({"image": {"type": f"{HOSTILE}.Image", "content": {}}})
            },
        },
    ],
)
def test_no_module_is_imported_by_name(copied, file, feature):
    if file == "features.json":
        (copied / file).write_text(json.dumps(feature))
    else:
        set_in(copied / file, "features", to=feature)
    refused(copied, "a feature of another kind")


def test_the_module_would_have_been_imported(copied, hostile_module):
    """So the test above can fail: this is what TFDS itself does."""
    import tensorflow_datasets as tfds

    del hostile_module
    (copied / "features.json").write_text(json.dumps({"pythonClassName": f"{HOSTILE}.Image"}))
    with pytest.raises(SystemExit, match="imported"):
        tfds.builder_from_directory(copied)


def test_pickles_in_place_of_arrays_are_not_opened(copied):
    load(copied)
    for file in (copied / "arrays").rglob("*.np*"):
        whole = file.read_bytes()
        with file.open("wb") as opened:
            if file.suffix == ".npy":
                np.save(opened, np.array([Call()], object), allow_pickle=True)
            else:
                np.savez(opened, identity=np.array([Call()], object))
        refused(copied, f"{file.name} is damaged .*; remove it")
        file.write_bytes(pickle.dumps(Call()))
        refused(copied, f"{file.name} is damaged .*; remove it")
        file.write_bytes(whole)
    load(copied)


# ---- places --------------------------------------------------------------------------------


def test_nothing_is_written_or_read_elsewhere(copied, tmp_path):
    outside = tmp_path / "outside"
    set_in(copied / "metadata.json", "fingerprint", to=str(outside))
    refused(copied, "metadata.json is damaged")
    set_in(copied / "metadata.json", "fingerprint", to="../../../../outside")
    refused(copied, "metadata.json is damaged")
    assert not outside.exists()

    (copied / "metadata.json").unlink()
    shutil.copytree(copied, outside)
    template = str(outside / "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}")
    set_in(copied / "dataset_info.json", "splits", 3, "filepathTemplate", to=template)
    refused(copied, "dataset_info.json is damaged")


def test_arrays_of_another_size_are_not_used(copied):
    """They would be taken for the images."""
    load(copied)
    (images,) = (copied / "arrays").rglob("gallery.image.8x4.bicubic.rgb.npy")
    np.save(images, np.zeros((18, 4, 8, 3), np.uint8))
    refused(
        copied,
        r"gallery.image.8x4.bicubic.rgb.npy is damaged .does not begin like .* \(18, 8, 4, 3\)",
    )
    images.unlink()
    load(copied)


def test_features_of_another_data_set(copied):
    set_in(copied / "features.json", "featuresDict", "features", "identity", "tensor", "dtype",
           to="string")  # fmt: skip
    refused(copied, "feature 'identity' is not that of re-identification")


def test_unknown_features_are_refused(copied):
    known = json.loads((copied / "features.json").read_text())["featuresDict"]["features"]
    set_in(copied / "features.json", "featuresDict", "features", "iris", to=known["image"])
    refused(copied, "a feature 'iris' that is not one of re-identification")


@pytest.mark.parametrize("name", ["image", "file_name", "has_mask"])
def test_features_that_no_example_can_lack(copied, name):
    content = json.loads((copied / "features.json").read_text())
    del content["featuresDict"]["features"][name]
    (copied / "features.json").write_text(json.dumps(content))
    refused(copied, f"no feature '{name}'")


def test_data_sets_with_fewer_columns_open(copied):
    """As they were written before faces and modalities came."""
    whole = load(copied)
    content = json.loads((copied / "features.json").read_text())
    for name in ("face", "has_face", "face_restored", "has_face_restored", "modality", "tracklet"):
        del content["featuresDict"]["features"][name]
    (copied / "features.json").write_text(json.dumps(content))
    shutil.rmtree(copied / "arrays")
    fewer = load(copied)
    assert fewer.names == whole.names
    assert (fewer.labels["modality"] == -1).all() and not fewer.labels["has_face"].any()
    np.testing.assert_array_equal(fewer.pixels["mask"], whole.pixels["mask"])


@pytest.mark.parametrize("name", ["fingerprint", "split_digests", "card", "published", "left_out"])
def test_nothing_where_the_builder_noted_something(copied, name):
    set_in(copied / "metadata.json", name, to=None)
    refused(copied, "metadata.json is damaged")


# ---- anything ------------------------------------------------------------------------------


def _read_all(directory: pathlib.Path) -> None:
    """Loads or refuses in one line."""
    try:
        split = load(directory)
        assert split.pixels["image"].shape == (len(split), 8, 4, 3)
        assert all(len(column) == len(split) for column in split.labels.values())
        card.text(Store(directory))
        card.json_text(Store(directory))
    except UserError as error:
        assert str(error).isprintable()


@pytest.fixture(scope="module")
def fuzzed(people, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("fuzzed") / BELOW
    shutil.copytree(people / BELOW, folder, ignore=shutil.ignore_patterns("arrays"))
    return folder


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_metadata(fuzzed, data):
    name = data.draw(st.sampled_from(["dataset_info.json", "features.json", "metadata.json"]))
    file = fuzzed / name
    whole = file.read_bytes()
    file.write_text(json.dumps(data.draw(changed_json(json.loads(whole)))))
    try:
        _read_all(fuzzed)
    finally:
        file.write_bytes(whole)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_bytes(fuzzed, data):
    """Of any file: other ones in one place, or from one place on, or none."""
    load(fuzzed)
    files = sorted(path for path in fuzzed.rglob("*gallery*") if path.suffix != ".npy")
    files += [fuzzed / name for name in ("dataset_info.json", "features.json", "metadata.json")]
    file = data.draw(st.sampled_from(files))
    whole = file.read_bytes()
    file.write_bytes(data.draw(changed_bytes(whole)))
    has_arrays = data.draw(st.booleans())
    if not has_arrays and "arrays" not in file.parts:
        shutil.rmtree(fuzzed / "arrays")
    try:
        _read_all(fuzzed)
    finally:
        file.write_bytes(whole)
