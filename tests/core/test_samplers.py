"""Samplers against the published ones' statistics and the laws they must obey."""

import numpy as np
import pytest

from sicl_jax.data import samplers
from sicl_jax.errors import UserError


def _draw(labels, cameras, *, steps=20, batch_size=16, seed=0):
    return samplers.draw_pseudo_identities(
        np.asarray(labels),
        None if cameras is None else np.asarray(cameras),
        steps=steps,
        batch_size=batch_size,
        num_instances=4,
        rng=np.random.default_rng(seed),
    )


def test_every_pseudo_identity_gives_four_images_of_its_own_from_other_cameras():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 12)
    cameras = rng.integers(0, 3, 120)
    batches = _draw(labels, cameras)
    assert batches.shape == (20, 16) and batches.dtype == np.int32
    for group in batches.reshape(-1, 4):
        assert len(set(labels[group])) == 1
        assert len(set(group)) == 4
        assert np.all(cameras[group[1:]] != cameras[group[0]])


def test_all_identities_come_before_any_comes_again():
    labels = np.repeat(np.arange(10), 4)
    stream = labels[_draw(labels, np.arange(40) % 2, batch_size=20).reshape(-1, 4)[:, 0]]
    for one_pass in np.split(stream, 10):
        assert sorted(one_pass) == list(range(10))


def test_with_replacement_when_fewer_than_four_are_left_to_choose_from():
    """Of n images of one camera, n - 1 are left: five suffice for four others, four do not."""
    labels = np.repeat(np.arange(40), np.repeat((4, 5), 20))
    for cameras in (np.zeros(len(labels), int), None):
        groups = _draw(labels, cameras, steps=30).reshape(-1, 4)
        repeated = np.array([len(set(group)) < 4 for group in groups])
        assert np.all(groups[:, :1] != groups[:, 1:])
        assert not repeated[labels[groups[:, 0]] >= 20].any()
        assert 0.5 < repeated[labels[groups[:, 0]] < 20].mean() < 1  # 1 - 6/27 = 0.78 on average.


def test_cameras_are_ignored_where_there_are_none():
    labels, cameras = np.repeat(np.arange(10), 12), np.arange(120) % 2
    groups = _draw(labels, None).reshape(-1, 4)
    assert np.any(cameras[groups[:, 1:]] == cameras[groups[:, :1]])


def test_an_image_alone_is_given_alone_and_unlabelled_ones_never():
    labels = np.array([0, -1, 1, 1, -1, *[2] * 20])
    stream = _draw(labels, None, steps=6, batch_size=8).reshape(-1)
    assert set(labels[stream]) == {0, 1, 2}
    passes = labels[stream].reshape(6, 8)
    assert np.all((passes == 0).sum(1) <= 1) and np.any((passes == 0).sum(1) == 1)
    with pytest.raises(UserError, match="none of 20 training images is in a cluster"):
        _draw(np.full(20, -1), None)


def test_the_rest_of_a_pass_is_dropped():
    """Ten times four images make two batches of 16; the third begins a new pass."""
    labels = np.repeat(np.arange(10), 6)
    for batches in np.split(labels[_draw(labels, None)], 10):
        drawn = batches.reshape(-1, 4)[:, 0]
        assert len(set(drawn)) == 8


def test_passes_shorter_than_a_batch_are_joined():
    labels = np.repeat(np.arange(3), 10)
    for batch in labels[_draw(labels, None)]:
        assert np.bincount(batch[:12]).tolist() == [4, 4, 4]


def test_same_seed_same_batches():
    labels, cameras = np.repeat(np.arange(8), 5), np.arange(40) % 3
    np.testing.assert_array_equal(_draw(labels, cameras), _draw(labels, cameras))
    assert not np.array_equal(_draw(labels, cameras), _draw(labels, cameras, seed=1))


def test_fewer_images_than_a_batch_is_refused():
    with pytest.raises(UserError, match="5 training images are fewer than one batch of 16"):
        _draw(np.zeros(5, int), np.zeros(5, int))
