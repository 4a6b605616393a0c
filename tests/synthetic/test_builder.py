"""The data sets that the builder writes."""

import collections

import numpy as np
import pytest
from baselines import SPLITS
from hypothesis import given
from hypothesis import strategies as st

from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.pixels import Form
from tfds_builders.synthetic_people import photograph
from tfds_builders.synthetic_people.synthetic_people_dataset_builder import (
    DEMO,
    MANY_OUTFITS,
    PRCC_SIZED,
    TINY,
    Builder,
)
from tfds_builders.synthetic_people.world import Shot, shots, uneven_counts


@given(st.integers(1, 60), st.integers(0, 3000), st.integers(0, 5))
def test_counts_sum_to_the_total(parts, more, seed):
    counts = uneven_counts(parts + more, parts, np.random.default_rng(seed))
    assert counts.shape == (parts,)
    assert counts.sum() == parts + more
    assert counts.min() >= 1


def test_too_few_images_for_the_people_are_refused():
    with pytest.raises(ValueError, match="3 images do not suffice for 4"):
        uneven_counts(3, 4, np.random.default_rng(0))


def test_prcc_sized_has_prccs_sizes():
    listed = {split: list(shots(PRCC_SIZED, split)) for split in SPLITS}
    sizes = {split: len(found) for split, found in listed.items()}
    assert sizes == {"train": 17896, "query_same": 3543, "query_changed": 3873, "gallery": 3384}
    people = {split: len({shot.identity for shot in found}) for split, found in listed.items()}
    assert people == {"train": 150, "query_same": 71, "query_changed": 71, "gallery": 71}


@pytest.mark.parametrize("world", [TINY, DEMO, PRCC_SIZED], ids=["tiny", "demo", "prcc_sized"])
def test_cameras_and_clothes_are_laid_out_as_in_prcc(world):
    listed = {split: list(shots(world, split)) for split in SPLITS}
    cameras = {split: {shot.camera for shot in found} for split, found in listed.items()}
    assert cameras["train"] == {"A", "B", "C"}
    assert (cameras["query_same"], cameras["query_changed"]) == ({"B"}, {"C"})
    assert cameras["gallery"] == {"A"}
    tested = {shot.identity for split in SPLITS[1:] for shot in listed[split]}
    assert not tested & {shot.identity for shot in listed["train"]}

    everything = [shot for found in listed.values() for shot in found]
    assert len({shot.name for shot in everything}) == len(everything)
    wearers = collections.defaultdict(set)
    for shot in everything:
        wearers[shot.clothes].add((shot.identity, shot.camera == "C"))
    assert all(len(found) == 1 for found in wearers.values())


def test_many_outfits_are_another_in_every_walk_and_nobody_elses():
    found = list(shots(MANY_OUTFITS, "train"))
    cameras = {shot.camera for shot in found}
    assert len(cameras) == 12 and MANY_OUTFITS.seed != DEMO.seed
    walks = collections.defaultdict(set)
    for shot in found:
        walk = shot.number // MANY_OUTFITS.images_per_pass
        walks[shot.clothes].add((shot.identity, shot.camera, walk))
    assert all(len(walk) == 1 for walk in walks.values())
    assert len(walks) == len(set.union(*walks.values()))
    assert len(walks) > 12 * MANY_OUTFITS.train_people


def test_people_have_uneven_numbers_of_images():
    counts = collections.Counter(shot.identity for shot in shots(DEMO, "train"))
    assert max(counts.values()) > 1.3 * min(counts.values())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    builder = Builder(data_dir=folder, config="tiny", file_format="array_record")
    builder.download_and_prepare()
    size = (TINY.height, TINY.width)
    return load_dataset(
        "synthetic_people/tiny",
        folder,
        forms={"image": Form(size), "mask": Form(size, mode="silhouette")},
    )


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_read_is_what_was_drawn(tiny, split):
    data = tiny.split(split)
    listed = {f"{shot.name}.jpg": shot for shot in shots(TINY, split)}
    assert set(data.names) == set(listed)
    assert len(data) == len(listed)
    for row in range(0, len(data), 5):
        shot: Shot = listed[data.names[row]]
        image, mask = photograph.take(TINY, shot)
        assert data.labels["identity"][row] == shot.identity
        assert data.labels["camera"][row] == "ABC".index(shot.camera)
        assert data.labels["clothes"][row] == shot.clothes
        np.testing.assert_array_equal(data.pixels["mask"][row], mask)
        loss = np.abs(data.pixels["image"][row].astype(int) - image.astype(int)).mean()
        assert loss < 4, "the JPEG is not the picture"
