"""The drawn people in infrared, their part labels and their faces."""

import dataclasses
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from sicl_jax import evaluation
from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.pixels import Form
from sicl_jax.data.prepare import Request, prepare
from tfds_builders.reid.features import INFRARED, VISIBLE
from tfds_builders.reid.parts import PARTS, kind_of
from tfds_builders.synthetic_people import photograph, studio
from tfds_builders.synthetic_people.synthetic_people_dataset_builder import (
    FACES_TINY,
    INFRARED_TINY,
)
from tfds_builders.synthetic_people.world import shots

_ATR = {name: label for label, name in enumerate(PARTS["atr"])}
_CLOTHES = [_ATR[name] for name in ("upper clothes", "trousers", "skirt", "dress")]
_BARE = [_ATR[name] for name in ("face", "left arm", "left leg")]


def taken(world, some):
    """Pictures with their masks and portraits."""
    for shot in some:
        picture, mask = photograph.take(world, shot)
        yield shot, picture, mask, photograph.portray(world, shot, picture, mask)


@pytest.fixture(scope="module")
def pairs():
    """The same people by a visible and by an infrared camera, with their parts."""
    world = dataclasses.replace(INFRARED_TINY, noise=0.0, blur=0.0)
    listed = list(shots(world, "train"))
    by_camera = {}
    for camera in ("1", "3"):
        some = [shot for shot in listed if shot.camera == camera and shot.number < 2]
        by_camera[camera] = list(taken(world, some))
    return by_camera


def test_infrared_has_no_colour_and_visible_light_has(pairs):
    assert all(np.ptp(picture, axis=-1).max() == 0 for _, picture, _, _ in pairs["3"])
    assert all(np.ptp(picture, axis=-1).max() > 20 for _, picture, _, _ in pairs["1"])


def test_skin_is_warm_and_clothes_are_cold(pairs):
    for _, picture, mask, portrait in pairs["3"]:
        grey = picture[..., 0].astype(float)
        inside = cv2.erode((portrait.parts > 0).astype(np.uint8), np.ones((3, 3))) > 0
        bare = grey[np.isin(portrait.parts, _BARE) & inside]
        clothes = grey[np.isin(portrait.parts, _CLOTHES) & inside]
        assert np.median(bare) > np.median(clothes) + 30
        assert np.median(clothes) > np.median(grey[mask == 0])


def test_patterns_vanish(pairs):
    def spread(taken_pictures):
        """Of brightness over garments, relative to their mean."""
        found = {}
        for shot, picture, _, portrait in taken_pictures:
            upper = portrait.parts == _ATR["upper clothes"]
            upper = cv2.erode(upper.astype(np.uint8), np.ones((3, 3))) > 0
            if upper.sum() > 100:
                grey = picture[upper].mean(axis=-1)
                found[shot.identity] = grey.std() / grey.mean()
        return found

    visible, infrared = spread(pairs["1"]), spread(pairs["3"])
    patterned = [person for person in visible if visible[person] > 0.25 and person in infrared]
    assert len(patterned) > 1
    assert all(infrared[person] < 0.7 * visible[person] for person in patterned)


def test_the_data_set_is_laid_out_as_sysu_mm01(tmp_path):
    prepare(Request("synthetic_people/infrared_tiny", tmp_path))
    data = load_dataset("synthetic_people/infrared_tiny", tmp_path, forms={})
    cameras = {name: set(data.split(name).labels["camera"].tolist()) for name in data.split_names}
    assert cameras == {"train": {1, 2, 3, 4, 5, 6}, "query": {3, 6}, "gallery": {1, 2, 4, 5}}
    for name in data.split_names:
        labels = data.split(name).labels
        infrared = np.isin(labels["camera"], (3, 6))
        np.testing.assert_array_equal(labels["modality"], np.where(infrared, INFRARED, VISIBLE))
    for config in ("infrared", "infrared_tiny"):
        tests = evaluation.protocols(f"synthetic_people/{config}")
        assert [test.name for test in tests] == [
            test.name for test in evaluation.protocols("sysu_mm01")
        ]
    assert evaluation.protocols("synthetic_people/faces") == evaluation.protocols("prcc")


@pytest.fixture(scope="module")
def portraits():
    return list(taken(FACES_TINY, list(shots(FACES_TINY, "train"))[::4]))


def test_parts_cover_the_person_and_nothing_else(portraits):
    seen = set()
    for _, _, mask, portrait in portraits:
        np.testing.assert_array_equal(portrait.parts > 0, mask > 0)
        seen |= set(np.unique(portrait.parts).tolist())
        shoes = np.flatnonzero((portrait.parts == _ATR["left shoe"]).any(axis=1))
        faces = np.flatnonzero((portrait.parts == _ATR["face"]).any(axis=1))
        assert shoes.min() > 0.6 * len(mask)
        assert faces.size == 0 or faces.max() < 0.35 * len(mask)
    assert {_ATR[part] for part in ("hair", "face", "left shoe", "upper clothes")} <= seen
    assert seen - {0} <= set(_ATR.values())


def test_faces_are_cut_out_of_the_picture_where_one_is_seen(portraits):
    away = 0
    for _, picture, _, portrait in portraits:
        if portrait.face is None:
            assert portrait.face_restored is None
            away += 1
            continue
        found = cv2.matchTemplate(picture, portrait.face, cv2.TM_SQDIFF)
        top, left = np.unravel_index(found.argmin(), found.shape)
        height, width, _ = portrait.face.shape
        np.testing.assert_array_equal(
            picture[top : top + height, left : left + width], portrait.face
        )
        assert top < 0.2 * len(picture)
    assert 0 < away < len(portraits) / 2


def test_restored_faces_show_the_same_in_more_detail(portraits):
    for _, _, _, portrait in portraits:
        if portrait.face is None:
            continue
        side = photograph.FACE
        assert portrait.face_restored.shape == (side, side, 3)
        assert len(portrait.face) < side / 2
        enlarged = cv2.resize(portrait.face, (side, side), interpolation=cv2.INTER_CUBIC)
        both = [face.astype(float).mean(axis=-1) for face in (portrait.face_restored, enlarged)]
        assert np.corrcoef(*(face.ravel() for face in both))[0, 1] > 0.7
        sharp = [cv2.Laplacian(face, cv2.CV_64F).var() for face in both]
        assert sharp[0] > 1.5 * sharp[1]


def test_files_of_a_picture_say_whose_labels_their_parts_are():
    shot = next(shots(FACES_TINY, "train"))
    files = studio.develop(FACES_TINY, shot)
    with Image.open(io.BytesIO(files["mask"])) as mask:
        assert kind_of(mask) == "atr"
        kept = Form(mask.size[::-1], "bilinear", "keep").decode(files["mask"])
        labels = np.asarray(mask)
    assert (kept[np.isin(labels, _CLOTHES)] == 0).all() and (kept[labels == 0] == 255).all()


def test_all_columns_are_prepared_and_read(tmp_path):
    prepared = prepare(Request("synthetic_people/faces_tiny", tmp_path))
    card = prepared.store.metadata["card"]["train"]
    assert 0 < card["faces"] == card["restored_faces"] < card["images"] == card["masks"]
    forms = {
        "mask": Form((32, 16), mode="parts"),
        "face": Form((8, 8)),
        "face_restored": Form((9, 9)),
    }
    split = load_dataset("synthetic_people/faces_tiny", tmp_path, forms=forms).split("train")
    assert split.labels["has_face"].sum() == card["faces"]
    for column in ("face", "face_restored"):
        shown = split.pixels[column].reshape(len(split), -1).any(axis=1)
        np.testing.assert_array_equal(shown, split.labels[f"has_{column}"] == 1)
    assert set(np.unique(split.pixels["mask"])) <= set(range(len(PARTS["atr"])))
