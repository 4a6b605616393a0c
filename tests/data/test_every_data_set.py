"""Every data set: written raw with its quirks, prepared, read again."""

import numpy as np
import pytest
import raw_pictures
import raw_trees
import tensorflow_datasets as tfds
from PIL import Image
from raw_pictures import forms

from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.prepare import Request, prepare
from tfds_builders.reid.features import reid_features

SIZE = (64, 32)


@pytest.fixture(scope="module", params=raw_trees.WRITERS)
def data_set(request, tmp_path_factory):
    """A data set's name, its raw tree and what `prepare` made of it."""
    folder = tmp_path_factory.mktemp(request.param)
    tree = raw_trees.WRITERS[request.param](folder)
    name = raw_trees.CONFIGS.get(request.param, request.param)
    prepared = prepare(Request(name, folder / "data", tree.raw, tree.masks))
    return name, tree, prepared, folder / "data"


@pytest.fixture(scope="module")
def loaded(data_set):
    name, _, _, data_dir = data_set
    return load_dataset(name, data_dir, forms=forms(SIZE))


def test_no_problem_is_seen_in_the_quirks(data_set):
    name, _, prepared, _ = data_set
    assert prepared.problems == []
    expected = {
        "deepchange": ["train-set: 1 images are not in train-set-bbox.txt, left alone"],
        "sysu_mm01": ["1 images of people in no list, left alone"],
        "deskpro/prcc": [
            f"{split}: 3 of {count} images have no {word}"
            for word in ("face", "restored face")
            for split, count in (("train", 18), ("query", 9))
        ],
    }
    assert prepared.warnings == expected.get(name, [])


def test_splits_hold_the_files_in_order(data_set, loaded):
    _, tree, _, _ = data_set
    assert set(loaded.split_names) == set(tree.labels)
    for split, labels in tree.labels.items():
        assert loaded.split(split).names == tuple(sorted(labels))


def test_labels_are_those_of_the_names(data_set, loaded):
    _, tree, _, _ = data_set
    outfits = {}
    for split, labels in tree.labels.items():
        part = loaded.split(split)
        for row, name in enumerate(part.names):
            expected = labels[name]
            for label in ("identity", "camera", "tracklet", "modality"):
                assert part.labels[label][row] == getattr(expected, label)
            clothes = int(part.labels["clothes"][row])
            if expected.clothes == -1:
                assert clothes == -1
            else:
                outfits.setdefault((expected.identity, expected.clothes), set()).add(clothes)
    # One number for each outfit of each person, and no number twice.
    assert all(len(numbers) == 1 for numbers in outfits.values())
    assert len(set().union(*outfits.values())) == len(outfits)


def test_pixels_are_the_drawn_ones_resized_by_pil(data_set, loaded):
    _, tree, _, _ = data_set
    for split in loaded.split_names:
        part = loaded.split(split)
        for row, name in enumerate(part.names):
            drawn = tree.pictures[name]
            resized = drawn.image.resize(SIZE[::-1], Image.Resampling.BICUBIC)
            difference = np.abs(part.pixels["image"][row].astype(int) - np.asarray(resized))
            # JPEG and CMYK lose a little; a wrong turn, a negative or swapped colours lose all.
            assert difference.mean() < 6, name


def test_masks_lie_on_their_images(data_set, loaded):
    _, tree, _, _ = data_set
    for split in loaded.split_names:
        part = loaded.split(split)
        for row, name in enumerate(part.names):
            silhouette = Image.fromarray(np.asarray(tree.pictures[name].mask) // 255 * 255)
            expected = silhouette.resize(SIZE[::-1], Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(part.pixels["mask"][row], np.asarray(expected), name)


def test_tfds_reads_the_same_examples(data_set, loaded):
    """The stock reader decodes every stored file, to the same pixels as PIL but for rounding."""
    name, tree, prepared, data_dir = data_set
    builder = tfds.builder_from_directory(prepared.store.directory)
    for split in loaded.split_names:
        source = builder.as_data_source(split)
        assert len(source) == len(tree.labels[split])
        for example in source:
            drawn = tree.pictures[example["file_name"].decode()]
            assert example["image"].shape == (drawn.image.height, drawn.image.width, 3)
            assert example["mask"].shape == example["image"].shape
            difference = np.abs(example["image"].astype(int) - np.asarray(drawn.image))
            assert difference.mean() < 6


def test_card_counts_what_was_written(data_set):
    _, tree, prepared, _ = data_set
    card = prepared.store.metadata["card"]
    for split, labels in tree.labels.items():
        identities, cameras, *_ = zip(*labels.values(), strict=True)
        assert card[split]["images"] == card[split]["masks"] == len(labels)
        assert card[split]["identities"] == len(set(identities) - {-1})
        assert card[split]["cameras"] == len(set(cameras) - {-1})


def test_preparing_again_writes_nothing(data_set):
    name, tree, prepared, data_dir = data_set
    before = {path: path.stat().st_mtime_ns for path in prepared.store.directory.iterdir()}
    again = prepare(Request(name, data_dir, tree.raw, tree.masks))
    assert again.was_there
    assert before == {path: path.stat().st_mtime_ns for path in prepared.store.directory.iterdir()}


def test_only_the_data_set_is_left_in_the_data_folder(data_set):
    name, _, prepared, data_dir = data_set
    name, _, config = name.partition("/")
    assert [path for path in data_dir.iterdir() if path.is_dir()] == [data_dir / name]
    assert not config or [path.name for path in (data_dir / name).iterdir()] == [config]
    written = {path.name.partition(".")[0] for path in prepared.store.directory.iterdir()}
    shards = {f"{name}-{split}" for split in prepared.store.examples}
    notes = {"contact_sheet", "dataset_info", "features", "metadata"}
    assert written - {"arrays"} == shards | notes


def test_all_data_sets_share_their_features(data_set):
    _, _, prepared, _ = data_set
    stored = tfds.builder_from_directory(prepared.store.directory).info.features
    assert str(stored) == str(reid_features())


def test_the_raw_tree_has_the_quirks(data_set):
    """What the tests above would not notice if the generator forgot it."""
    _, tree, _, _ = data_set
    pictures = [Image.open(tree.raw / name) for name in tree.pictures]
    assert any(picture.mode == "CMYK" for picture in pictures)
    assert any(picture.getexif().get(raw_pictures.ORIENTATION) == 6 for picture in pictures)
    assert any(name.endswith((".JPG", ".PNG", ".BMP", ".JPEG")) for name in tree.pictures)
    assert any((tree.raw / name).read_bytes()[24:26] == b"\x10\x02" for name in tree.pictures)
    assert any(tree.raw.rglob("Thumbs.db"))
    assert any(tree.raw.rglob(".DS_Store"))
