"""Arrays of a prepared data set: PIL's pixels, masks in both modes, kept whole on disk."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import raw_pictures
import raw_trees
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from raw_pictures import forms

from sicl_jax.data import files
from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.pixels import Form
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.data.store import Store
from sicl_jax.errors import UsageError, UserError
from tfds_builders.reid.features import LABELS, encode_png

SIZE = (64, 32)


@pytest.fixture(scope="module")
def ltcc(tmp_path_factory):
    """PNG images and palette masks: no loss on the way, so pixels can be compared exactly."""
    folder = tmp_path_factory.mktemp("ltcc")
    tree = raw_trees.write_ltcc(folder)
    prepare(Request("ltcc", folder / "data", tree.raw, tree.masks))
    return tree, folder / "data"


def is_lossless(name: str) -> bool:
    return name.lower().endswith(".png")


def test_images_are_exactly_pils(ltcc):
    tree, data_dir = ltcc
    split = load_dataset("ltcc", data_dir, forms=forms(SIZE)).split("train")
    compared = 0
    for row, name in enumerate(split.names):
        if is_lossless(name):
            expected = tree.pictures[name].image.resize(SIZE[::-1], Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(split.pixels["image"][row], np.asarray(expected))
            compared += 1
    assert compared > 10


def test_parsing_masks_are_the_luminance_of_the_palette(ltcc):
    tree, data_dir = ltcc
    data_set = load_dataset("ltcc", data_dir, forms=forms(SIZE, "parsing"))
    split = data_set.split("train")
    # ITU-R 601 luminance of black, (128, 0, 0), (0, 128, 0) and (128, 128, 0).
    grey_of_label = np.array([0, 38, 75, 113], np.uint8)
    for row, name in enumerate(split.names):
        labels = raw_pictures.part_labels(np.asarray(tree.pictures[name].mask) > 0)
        grey = Image.fromarray(grey_of_label[labels])
        expected = grey.resize(SIZE[::-1], Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(split.pixels["mask"][row], np.asarray(expected))


@pytest.mark.parametrize("resize", ["bilinear", "lanczos"])
def test_the_filter_is_part_of_an_arrays_identity(ltcc, resize):
    tree, data_dir = ltcc
    columns = {"image": Form(SIZE, resize), "mask": Form(SIZE, resize, "silhouette")}
    split = load_dataset("ltcc", data_dir, forms=columns).split("gallery")
    resample = Image.Resampling[resize.upper()]
    for row, name in enumerate(split.names):
        drawn = tree.pictures[name]
        silhouette = Image.fromarray(np.where(np.asarray(drawn.mask) > 0, 255, 0).astype(np.uint8))
        pairs = {"mask": silhouette} | ({"image": drawn.image} if is_lossless(name) else {})
        for column, picture in pairs.items():
            expected = np.asarray(picture.resize(SIZE[::-1], resample))
            np.testing.assert_array_equal(split.pixels[column][row], expected)


def test_part_labels_are_never_mixed(ltcc):
    tree, data_dir = ltcc
    columns = {"mask": Form(SIZE, "bicubic", "parts")}
    split = load_dataset("ltcc", data_dir, forms=columns).split("train")
    for row, name in enumerate(split.names):
        labels = raw_pictures.part_labels(np.asarray(tree.pictures[name].mask) > 0)
        expected = Image.fromarray(labels).resize(SIZE[::-1], Image.Resampling.NEAREST)
        np.testing.assert_array_equal(split.pixels["mask"][row], np.asarray(expected))


def test_silhouettes_have_no_parts(tmp_path):
    tree = raw_trees.write_vc_clothes(tmp_path)
    prepare(Request("vc_clothes", tmp_path / "data", tree.raw, tree.masks))
    columns = {"mask": Form(SIZE, mode="parts")}
    split = load_dataset("vc_clothes", tmp_path / "data", forms=columns).split("query")
    with pytest.raises(UserError, match="query/.*: the mask holds no part labels") as caught:
        _ = split.pixels["mask"]
    assert "\n" not in str(caught.value)


def test_what_a_sample_lacks_is_black(tmp_path):
    """Test images may lack masks; a picture that none has takes no room."""
    tree = raw_trees.write_ltcc(tmp_path)
    (tree.masks / "query/004_1_c1_000000.png").unlink()
    prepare(Request("ltcc", tmp_path / "data", tree.raw, tree.masks))
    columns = forms(SIZE) | {"face": Form((8, 8))}
    data_set = load_dataset("ltcc", tmp_path / "data", forms=columns)
    split = data_set.split("query")
    row = next(r for r, name in enumerate(split.names) if "004_1_c1" in name)
    assert split.labels["has_mask"].tolist() == [int(r != row) for r in range(len(split))]
    assert not split.all_have("mask")
    assert [bool(mask.any()) for mask in split.pixels["mask"]] == [
        r != row for r in range(len(split))
    ]
    assert split.pixels["face"].shape == (len(split), 8, 8, 3) and not split.pixels["face"].any()
    assert not list((data_set.directory / "arrays").rglob("*.face.*"))


def test_types_and_shapes(ltcc):
    split = load_dataset("ltcc", ltcc[1], forms=forms(SIZE)).split("gallery")
    count = len(split)
    assert split.pixels["image"].shape == (count, *SIZE, 3)
    assert split.pixels["mask"].shape == (count, *SIZE)
    assert split.pixels["image"].dtype == split.pixels["mask"].dtype == np.uint8
    assert set(split.labels) == {*LABELS, "has_mask", "has_face", "has_face_restored"}
    assert split.labels["has_mask"].all() and not split.labels["has_face"].any()
    assert split.all_have("image") and split.all_have("mask") and not split.all_have("face")
    for labels in split.labels.values():
        assert labels.shape == (count,)
        assert labels.dtype == np.int32
    assert not split.pixels["image"].flags.writeable


def test_arrays_are_made_once(ltcc, monkeypatch):
    _, data_dir = ltcc
    first = load_dataset("ltcc", data_dir, forms=forms(SIZE)).split("query")
    images = first.pixels["image"]
    monkeypatch.setattr(Store, "records", None)
    again = load_dataset("ltcc", data_dir, forms=forms(SIZE)).split("query")
    np.testing.assert_array_equal(images, again.pixels["image"])
    assert first.names == again.names


def test_another_size_is_another_array(ltcc):
    _, data_dir = ltcc
    small = load_dataset("ltcc", data_dir, forms=forms((16, 8))).split("query")
    large = load_dataset("ltcc", data_dir, forms=forms(SIZE)).split("query")
    assert small.pixels["image"].shape[1:3] == (16, 8)
    assert large.pixels["image"].shape[1:3] == SIZE


def test_cache_dir(ltcc, tmp_path):
    _, data_dir = ltcc
    data_set = load_dataset("ltcc", data_dir, forms=forms((8, 8)), cache_dir=tmp_path)
    split = data_set.split("query")

    def made():
        return sorted(path.name for path in (tmp_path / data_set.fingerprint).iterdir())

    assert made() == ["query.labels.npz"]
    assert split.pixels["mask"].shape == (len(split), 8, 8)
    assert made() == ["query.labels.npz", "query.mask.8x8.bicubic.silhouette.npy"]
    assert split.pixels["image"] is split.pixels["image"]
    assert "query.image.8x8.bicubic.rgb.npy" in made()


@pytest.mark.parametrize("name", ["query.labels.npz", "query.image.8x8.bicubic.rgb.npy"])
def test_a_changed_byte(ltcc, tmp_path, name):
    def images_of():
        data_set = load_dataset("ltcc", ltcc[1], forms=forms((8, 8)), cache_dir=tmp_path)
        return data_set.split("query").pixels["image"]

    images = np.array(images_of())
    (path,) = tmp_path.rglob(name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{name} is damaged .*; remove it, and it is made anew"):
        images_of()
    path.unlink()
    np.testing.assert_array_equal(images_of(), images)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written(ltcc, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write arrays"):
        load_dataset("ltcc", ltcc[1], forms=forms((8, 8)), cache_dir=tmp_path).split("query")


def test_cache_dir_that_is_a_file(ltcc, tmp_path):
    (tmp_path / "file").write_text("")
    data_set = load_dataset("ltcc", ltcc[1], forms=forms((8, 8)), cache_dir=tmp_path / "file")
    with pytest.raises(UserError, match="cannot write arrays"):
        data_set.split("query")


def test_fingerprint_depends_on_what_was_prepared_only(tmp_path):
    prints = []
    for place in ("one", "two"):
        tree = raw_trees.write_vc_clothes(tmp_path / place)
        prepare(Request("vc_clothes", tmp_path / place / "data", tree.raw, tree.masks))
        prints.append(load_dataset("vc_clothes", tmp_path / place / "data").fingerprint)
    assert prints[0] == prints[1]
    mask = next((tmp_path / "two/masks").rglob("*.png"))
    Image.fromarray(255 - np.asarray(Image.open(mask))).save(mask)
    request = Request("vc_clothes", tmp_path / "two/data", tree.raw, tree.masks, overwrite=True)
    assert prepare(request).store.metadata["fingerprint"] != prints[0]


def test_generated_data_sets_have_a_fingerprint_too(tmp_path):
    """Their builder notes none down; `prepare` does, and it is that of the examples."""
    request = Request("synthetic_people/tiny", tmp_path)
    prepared = prepare(request)
    assert prepare(request).was_there
    data_set = load_dataset("synthetic_people/tiny", tmp_path, forms=forms((32, 16)))
    assert data_set.fingerprint == prepared.store.metadata["fingerprint"]
    assert data_set.name == "synthetic_people/tiny"
    assert len(data_set.split("train")) == prepared.store.metadata["card"]["train"]["images"]


def test_what_differs_from_what_was_prepared_is_refused(ltcc, tmp_path):
    """Examples swapped for others of the same number: the files are whole, the digest is not."""
    _, data_dir = ltcc
    other = raw_trees.write_ltcc(tmp_path / "other")
    victim = next((other.raw / "train").glob("*_000001.png"))
    victim.write_bytes(encode_png(np.zeros((48, 24, 3), np.uint8)))
    prepare(Request("ltcc", tmp_path / "data", other.raw, other.masks))
    shard = "ltcc-train.array_record-00000-of-00001"
    mine = tmp_path / "data/ltcc/1.0.0" / shard
    mine.write_bytes((data_dir / "ltcc/1.0.0" / shard).read_bytes())
    with pytest.raises(UserError, match="split train differs from what was prepared"):
        load_dataset("ltcc", tmp_path / "data").split("train")
    assert not list((tmp_path / "data").rglob("*.np?"))


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("prcc", {}, UserError, "no prepared data set prcc"),
        ("ltcc", {"forms": {"pose": Form(SIZE)}}, UsageError, "there is no picture 'pose'"),
        ("ltcc", {"forms": {"mask": Form(SIZE)}}, UsageError, "mode 'rgb' is none of a mask's"),
    ],
)
def test_wrong_arguments(ltcc, name, options, error, message):
    with pytest.raises(error, match=message):
        load_dataset(name, ltcc[1], **options)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (0, 8)}, "image_size"),
        ({"size": SIZE, "resize": "box"}, "resize 'box' is unknown; use one of bicubic"),
        ({"size": SIZE, "mode": "grey"}, "mode 'grey' is unknown; use one of rgb"),
    ],
)
def test_forms_that_are_none(fields, message):
    with pytest.raises(UsageError, match=message):
        Form(**fields)


def test_unknown_split(ltcc):
    with pytest.raises(UserError, match="no split 'test'; it has train, query, gallery"):
        load_dataset("ltcc", ltcc[1]).split("test")


def test_missing_data_dir(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        load_dataset("ltcc", tmp_path / "nowhere")


def test_the_newest_version_is_used(ltcc, tmp_path):
    import shutil

    shutil.copytree(ltcc[1], tmp_path / "data")
    for version in ("0.9.0", "10.0.0", "2.0.0.incomplete"):
        shutil.copytree(tmp_path / "data/ltcc/1.0.0", tmp_path / "data/ltcc" / version)
    assert load_dataset("ltcc", tmp_path / "data").directory.name == "10.0.0"


@settings(max_examples=60, deadline=None)
@given(
    labels=npst.arrays(np.uint8, st.tuples(st.integers(4, 20), st.integers(4, 20))),
    kind=st.sampled_from(["L", "P", "RGB", "1"]),
)
def test_silhouettes_have_two_values_and_the_masks_shape(labels, kind):
    """At its own size a silhouette is 255 exactly where the mask is not 0, whatever its kind."""
    if kind == "P":
        mask = Image.fromarray(labels).convert("P")
        mask.putdata(labels.ravel().tolist())
        mask.putpalette([200, 200, 200] * 256)  # Background is label 0, not a black colour.
    elif kind == "RGB":
        mask = Image.fromarray(np.stack([labels * 0, labels, labels * 0], axis=-1))
    elif kind == "1":
        mask = Image.fromarray(labels > 0)
    else:
        mask = Image.fromarray(labels)
    buffer = io.BytesIO()
    mask.save(buffer, format="PNG")
    silhouette = Form(labels.shape, mode="silhouette").decode(buffer.getvalue())
    np.testing.assert_array_equal(silhouette, np.where(labels > 0, 255, 0))


def test_atomic_file_leaves_nothing_behind(tmp_path):
    target = tmp_path / "a.npy"
    with files.atomic_file(target) as file:
        file.write(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    with pytest.raises(ZeroDivisionError), files.atomic_file(target) as file:
        file.write(b"half")
        1 / 0  # noqa: B018
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
    assert target.read_bytes() == b"whole"


def test_temporary_files_of_dead_processes_are_removed(tmp_path):
    killed = """
import os, pathlib, sys
from sicl_jax.data import files
with files.atomic_file(pathlib.Path(sys.argv[1])) as file:
    file.write(b"half")
    os._exit(0)
"""
    subprocess.run([sys.executable, "-c", killed, tmp_path / "a.npy"], check=True)
    assert len(list(tmp_path.iterdir())) == 1
    with files.atomic_file(tmp_path / "a.npy") as file:
        file.write(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
