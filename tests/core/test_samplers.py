"""Samplers against the published ones' statistics and the laws they must obey."""

import numpy as np
import pytest

from sicl_jax.data import samplers
from sicl_jax.errors import UsageError, UserError


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


def _draw_identities(labels, *, batch_size=12, seed=0):
    rng = np.random.default_rng(seed)
    return samplers.draw_identities(labels, batch_size=batch_size, num_instances=4, rng=rng)


def test_batches_of_whole_groups_of_distinct_identities_until_too_few_are_left():
    sizes = [1, 3, 4, 9, 11, 20, 40]
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(7), sizes))
    lengths = set()
    for seed in range(20):
        batches = _draw_identities(labels, seed=seed)
        lengths.add(len(batches))
        groups = labels[batches].reshape(-1, 3, 4)
        assert np.all(groups == groups[..., :1])
        assert all(len(set(batch)) == 3 for batch in groups[..., 0])
        used, times = np.unique(batches, return_counts=True)
        assert set(labels[used[times > 1]]) <= {0, 1}  # Those with fewer images than a group.
        left = np.array([1, 1, 1, 2, 2, 5, 10]) - np.bincount(groups[..., 0].ravel(), minlength=7)
        assert left.min() >= 0 and np.count_nonzero(left) < 3
    assert len(lengths) > 1


def test_identities_are_chosen_whatever_they_have_left():
    """Of one with many groups and five with one each, the first batch has any two alike."""
    labels = np.repeat(np.arange(6), [400, 4, 4, 4, 4, 4])
    first = np.concatenate(
        [labels[_draw_identities(labels, batch_size=8, seed=seed)[0]] for seed in range(300)]
    )
    assert 70 < np.count_nonzero(first == 0) / 4 < 130  # 300 x 2 / 6 = 100.


def test_epochs_differ_and_may_be_drawn_again():
    labels = np.repeat(np.arange(6), 8)
    np.testing.assert_array_equal(_draw_identities(labels), _draw_identities(labels))
    other = _draw_identities(labels, seed=1)
    assert other.dtype == np.int32 and not np.array_equal(_draw_identities(labels)[:1], other[:1])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(8, -1), "have no identities; train with a method that needs none"),
        (np.array([0, 0, 1, 1, 2, -1]), "1 of 6 training images have no identity"),
        (np.array([0, 0, 5, 5]), "2 training identities are fewer than the 3 of a batch"),
    ],
)
def test_labels_that_cannot_be_drawn_from_are_refused_in_one_line(labels, message):
    with pytest.raises(UserError, match=message) as caught:
        samplers.check_identities(labels, name="mine", batch_size=12, num_instances=4)
    assert str(caught.value).startswith("mine: ") and "\n" not in str(caught.value)


def test_an_identity_of_one_image_is_told():
    labels = np.array([0, 0, 7, 9, 9, 9])
    (warning,) = samplers.check_identities(labels, name="mine", batch_size=12, num_instances=4)
    assert "1 of 3 training identities have one image (the first: 7)" in warning
    others = labels[labels != 7]
    assert samplers.check_identities(others, name="", batch_size=8, num_instances=4) == []
    with pytest.raises(UsageError, match="batch_size=4: has one identity, and nobody"):
        samplers.check_identities(others, name="", batch_size=4, num_instances=4)
