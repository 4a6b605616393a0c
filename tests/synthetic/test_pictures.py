"""What one picture and its mask are."""

import dataclasses
import itertools

import cv2
import numpy as np
import pytest

from tfds_builders.reid import workers
from tfds_builders.synthetic_people import body, photograph, scene, studio
from tfds_builders.synthetic_people.synthetic_people_dataset_builder import PRCC_SIZED, TINY
from tfds_builders.synthetic_people.world import Shot, shots

TRAIN = list(shots(TINY, "train"))


def _forget():
    for cached in (photograph._person, photograph._outfit, photograph._walk_past):
        cached.cache_clear()
    for cached in (photograph._grain, scene.camera, scene.background):
        cached.cache_clear()


def test_a_picture_depends_on_its_name_alone():
    some = TRAIN[::7]
    first = [studio.develop(TINY, shot) for shot in some]
    _forget()
    backwards = [studio.develop(TINY, shot) for shot in reversed(some)]
    assert first == backwards[::-1]


def test_processes_do_not_change_the_pictures(monkeypatch):
    alone = list(studio.develop_all(TINY, TRAIN, cores=1))
    monkeypatch.setattr(workers, "_WORTH_PROCESSES", 1)
    assert list(studio.develop_all(TINY, TRAIN, cores=2)) == alone


@pytest.mark.parametrize("field", ["seed", "body_variation", "pose_variation", "blur", "noise"])
def test_settings_change_the_pictures(field):
    other = dataclasses.replace(TINY, **{field: getattr(TINY, field) + 1})
    assert not np.array_equal(
        photograph.take(TINY, TRAIN[5])[0], photograph.take(other, TRAIN[5])[0]
    )


def _on(monkeypatch, world, shot, grey: int) -> tuple[np.ndarray, np.ndarray]:
    """Takes a picture in front of a uniform background."""

    def background(_seed, _name, height, width, _contrast):
        return np.full((height + 8, 3 * width, 3), grey, np.float32)

    monkeypatch.setattr(scene, "background", background)
    image, mask = photograph.take(world, shot)
    return image.astype(np.int64), mask


@pytest.mark.parametrize("world", [TINY, PRCC_SIZED], ids=["128 x 64", "256 x 128"])
def test_the_mask_is_where_the_person_hides_the_background(monkeypatch, world):
    clear = dataclasses.replace(world, blur=0.0, noise=0.0, light_variation=0.0)
    unsure = 0
    for shot in itertools.islice(shots(clear, "train"), 0, 400, 40):
        white, mask = _on(monkeypatch, clear, shot, 255)
        black, same = _on(monkeypatch, clear, shot, 0)
        np.testing.assert_array_equal(mask, same)
        assert set(np.unique(mask)) == {0, 255}
        # white - black = (1 - coverage) * 255 * shadow, and the shadow dims by 0.62 at most.
        seen = (white - black).mean(-1)
        assert (mask[seen < 0.5 * 0.6 * 255] == 255).all()
        assert (mask[seen > 0.52 * 255] == 0).all()
        unsure += ((seen >= 0.5 * 0.6 * 255) & (seen <= 0.52 * 255)).mean() / 10
    assert unsure < 0.02


def test_people_are_whole_and_fill_their_crops():
    for shot in TRAIN:
        mask = photograph.take(TINY, shot)[1] > 0
        parts = cv2.connectedComponentsWithStats(mask.astype(np.uint8))[2][1:, cv2.CC_STAT_AREA]
        assert parts.max() > 0.97 * mask.sum()
        assert 0.08 < mask.mean() < 0.5
        rows = np.flatnonzero(mask.any(1))
        assert 0.68 < np.ptp(rows) / TINY.height < 1.0


def test_images_follow_a_walk():
    world = dataclasses.replace(TINY, images_per_pass=6)

    def mask(shot: Shot) -> np.ndarray:
        return photograph.take(world, shot)[1] > 0

    near, far = [], []
    for identity, camera in itertools.product(range(8), "ABC"):
        walk = [mask(Shot("train", identity, camera, number)) for number in range(6)]
        near += [_overlap(a, b) for a, b in itertools.pairwise(walk)]
        far += [_overlap(a, b) for a, b in zip(walk, walk[2:], strict=False)]
    assert np.mean(near) > np.mean(far) + 0.03


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def test_body_variation_is_what_makes_bodies_differ():
    def heights(variation: float) -> np.ndarray:
        people = range(40)
        return np.array(
            [body.sample(0, i, variation=variation, complexion=0).height for i in people]
        )

    assert np.ptp(heights(0.0)) == 0
    assert 0.1 < np.ptp(heights(1.0)) < 0.5
    assert heights(1.5).std() > 1.3 * heights(1.0).std()
