"""Rankings against a plain loop over queries, closed forms, and laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sicl_jax.errors import UserError
from sicl_jax.evaluation import FeatureSet, places, rules
from sicl_jax.evaluation.distances import distance_rows, euclidean_rows
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.ranking import rank

RULES = {
    "nothing": rules.NOTHING,
    "camera": rules.STANDARD,
    "camera and clothes": rules.SAME_CAMERA_AND_CLOTHES,
    "camera or clothes": rules.CLOTH_CHANGING,
    "tracklet": rules.SAME_TRACKLET,
    "other clothes": rules.SAME_CLOTHES_ONLY,
}


def same(a, b):
    return a == b and a != -1


NAMES = ("identity", "camera", "clothes", "tracklet")
LOOP_RULES = {
    "nothing": lambda q, g: False,  # noqa: ARG005
    "camera": lambda q, g: same(q[1], g[1]),
    "camera and clothes": lambda q, g: same(q[1], g[1]) and same(q[2], g[2]),
    "camera or clothes": lambda q, g: same(q[1], g[1]) or same(q[2], g[2]),
    "tracklet": lambda q, g: same(q[3], g[3]),
    "other clothes": lambda q, g: same(q[1], g[1]) or not same(q[2], g[2]),
}


def labels(images):
    return list(
        zip(
            *(images.labels[name].tolist() for name in NAMES),
            strict=True,
        )
    )


def loop(query, gallery, distances, drops):
    """First match, average precision and INP of each query, the plain way."""
    gallery_labels = labels(gallery)
    for q, row in zip(labels(query), distances, strict=True):
        order = np.argsort(row, kind="stable")
        matches = [
            same(q[0], gallery_labels[g][0])
            for g in order
            if not (same(q[0], gallery_labels[g][0]) and drops(q, gallery_labels[g]))
        ]
        ranks = np.flatnonzero(matches) + 1
        if not len(ranks):
            yield 0, 0.0, 0.0
            continue
        precisions = np.arange(1, len(ranks) + 1) / ranks
        yield int(ranks[0]), precisions.mean(), len(ranks) / ranks[-1]


def assert_same_as_loop(query, gallery, distances):
    rankings = rank(
        query, gallery, RULES, distances=lambda start, stop: distances[start:stop], block_bytes=500
    )
    for name, drops in LOOP_RULES.items():
        expected = list(loop(query, gallery, distances, drops))
        first, precision, penalty = (np.array(column) for column in zip(*expected, strict=True))
        np.testing.assert_array_equal(rankings[name].first_match, first)
        np.testing.assert_allclose(rankings[name].average_precision, precision, rtol=1e-12)
        np.testing.assert_allclose(rankings[name].inverse_penalty, penalty, rtol=1e-12)


def make_set(rng, count, *, identities=4, others=3, dim=2):
    def label(high):
        return rng.integers(-1, high, size=count)

    features = rng.integers(-2, 3, size=(count, dim))
    highest = (identities, others, others, others)
    return FeatureSet(features, {n: label(high) for n, high in zip(NAMES, highest, strict=True)})


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32), queries=st.integers(1, 12), size=st.integers(0, 40))
def test_like_a_loop_with_many_ties(seed, queries, size):
    rng = np.random.default_rng(seed)
    query, gallery = make_set(rng, queries), make_set(rng, size)
    # Small whole numbers: distances are exact, and most are equal to others.
    distances = euclidean_rows(query.features, gallery.features)(0, queries)
    assert_same_as_loop(query, gallery, distances)


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    row=st.lists(
        st.floats(-(2.0**60), 2.0**60, width=32) | st.sampled_from([0.0, 1.0, 1 + 2**-23, 1e-45]),
        min_size=1,
        max_size=30,
    ),
)
def test_like_a_loop_for_any_distances(seed, row):
    rng = np.random.default_rng(seed)
    distances = np.array([row], np.float32)
    assert_same_as_loop(make_set(rng, 1), make_set(rng, len(row), identities=2), distances)


@pytest.mark.parametrize("identities", [2, 30])
@pytest.mark.parametrize("levels", [1, 50, 10**9])
def test_like_a_loop_beyond_one_chunk(identities, levels):
    """A gallery larger than what the compiled pass takes at once, coarse to fine distances."""
    rng = np.random.default_rng(levels)
    query = make_set(rng, 6, identities=identities)
    gallery = make_set(rng, 2 * places.CHUNK + 100, identities=identities)
    distances = (rng.integers(levels, size=(6, len(gallery))) / levels).astype(np.float32)
    assert_same_as_loop(query, gallery, distances)


EVERYBODY = rules.of_anyone(rules.labelled("camera", query=1, gallery=0))
EVERYBODY_RULES = {
    "whoever": (EVERYBODY, lambda q, g: q[1] == 1 and g[1] == 0),
    "or same clothes": (
        EVERYBODY | rules.SAME_CLOTHES,
        lambda q, g: (q[1] == 1 and g[1] == 0) or (same(q[0], g[0]) and same(q[2], g[2])),
    ),
    "but same clothes": (
        EVERYBODY & ~rules.of_anyone(rules.SAME_CLOTHES),
        lambda q, g: q[1] == 1 and g[1] == 0 and not same(q[2], g[2]),
    ),
    "same tracklet": (
        rules.SAME_TRACKLET,
        lambda q, g: same(q[0], g[0]) and same(q[3], g[3]),
    ),
}


def careful_loop(query, gallery, distances, drops):
    """As `loop`, of what is left in the gallery; and the identity's rank, and AP by steps."""
    gallery_labels = labels(gallery)
    for q, row in zip(labels(query), distances, strict=True):
        order = [g for g in np.argsort(row, kind="stable") if not drops(q, gallery_labels[g])]
        matches = np.array([same(q[0], gallery_labels[g][0]) for g in order], bool)
        ranks = np.flatnonzero(matches) + 1
        if not len(ranks):
            yield 0, 0, 0.0, 0.0, 0.0
            continue
        before = [gallery_labels[g][0] for g in order[: ranks[0] - 1]]
        strangers = before.count(-1) + len(set(before) - {-1})
        near = row[order]
        steps = [(matches & (near <= d)).sum() / (near <= d).sum() for d in near[matches]]
        in_order = (np.arange(len(ranks)) + 1) / ranks
        yield ranks[0], strangers + 1, in_order.mean(), np.mean(steps), len(ranks) / ranks[-1]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), queries=st.integers(1, 9), size=st.integers(0, 30))
def test_rules_about_everybody_identities_and_steps(seed, queries, size):
    rng = np.random.default_rng(seed)
    query, gallery = make_set(rng, queries), make_set(rng, size)
    distances = euclidean_rows(query.features, gallery.features)
    every_rule = {name: rule for name, (rule, _) in EVERYBODY_RULES.items()}
    rankings = {
        (count, ties): rank(query, gallery, every_rule, count=count, ties=ties, block_bytes=300)
        for count in ("images", "identities")
        for ties in ("in order", "together")
    }
    for name, (_, drops) in EVERYBODY_RULES.items():
        expected = np.array(list(careful_loop(query, gallery, distances(0, queries), drops)))
        for (count, ties), ranking in rankings.items():
            columns = [int(count == "identities"), 2 + int(ties == "together"), 4]
            found = ranking[name]
            np.testing.assert_allclose(
                [found.first_match, found.average_precision, found.inverse_penalty],
                expected[:, columns].T,
                rtol=1e-12,
            )


def test_missing_faces_leave_the_rest_to_decide():
    """DeskPro: unit columns, those of a missing face zero; the distance is 1 - q . g."""
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(9, 4, 3)).astype(np.float32)
    columns /= np.linalg.norm(columns, axis=2, keepdims=True)
    columns[[0, 2, 6], :2] = 0
    images = FeatureSet(columns.reshape(9, 12), {"identity": np.arange(9) % 3}, similarity="dot")
    query, gallery = images.take(np.arange(3)), images.take(np.arange(3, 9))
    found = distance_rows(query, gallery)(0, 3)
    np.testing.assert_allclose(found, 1 - np.einsum("qcd,gcd->qg", columns[:3], columns[3:]), 1e-5)
    body = 1 - np.einsum("cd,gcd->g", columns[0, 2:], columns[3:, 2:])
    np.testing.assert_allclose(found[0], body, rtol=1e-5)
    assert np.isfinite(summarize(rank(query, gallery, {"": rules.NOTHING})[""]).mAP)


def test_sides_of_two_kinds_are_refused():
    rows = np.eye(3, dtype=np.float32)
    sides = [FeatureSet(rows, {}, similarity=kind) for kind in ("dot", "euclidean")]
    for other in (sides[1], FeatureSet(rows[:, :2], {}, similarity="dot")):
        with pytest.raises(UserError, match="features of queries and gallery differ .dot, 3 num"):
            rank(sides[0], other, {"": rules.NOTHING})


def one_camera_each(identities, *, camera, features=None):
    identities = np.asarray(identities)
    if features is None:
        features = np.eye(16)[identities]
    cameras = np.full_like(identities, camera)
    return FeatureSet(features, {"identity": identities, "camera": cameras})


def test_a_perfect_ranking():
    query = one_camera_each([0, 1, 2], camera=0)
    gallery = one_camera_each([0, 1, 2, 2, 1, 5], camera=1)
    result = summarize(rank(query, gallery, {"": rules.STANDARD})[""])
    assert result.figures() == dict.fromkeys(result.figures(), 1.0)
    assert (result.queries, result.skipped) == (3, 0)


def test_a_ranking_worked_out_by_hand():
    """Gallery at distances 1, 4, 9, 16, 25; matches second, third and last."""
    query = one_camera_each([0], camera=0, features=[[0.0]])
    gallery = one_camera_each([1, 0, 0, 1, 0], camera=1, features=[[1.0], [2], [3], [4], [5]])
    result = summarize(rank(query, gallery, {"": rules.STANDARD})[""])
    assert result.cmc[:3].tolist() == [0, 1, 1]
    assert result.mAP == pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3)
    assert result.mINP == pytest.approx(3 / 5)


def test_a_gallery_shorter_than_the_ranks():
    query = one_camera_each([0], camera=0)
    gallery = one_camera_each([1, 0], camera=1)
    result = summarize(rank(query, gallery, {"": rules.STANDARD})[""])
    assert result.rank20 == 1 and len(result.cmc) == 50


def test_distractors_match_nobody():
    query = one_camera_each([-1, 1], camera=0)
    gallery = one_camera_each([-1, 1], camera=1)
    assert rank(query, gallery, {"": rules.NOTHING})[""].first_match.tolist() == [0, 1]


def test_the_gallery_may_come_in_any_order():
    rng = np.random.default_rng(0)
    query, gallery = make_set(rng, 20), make_set(rng, 80)
    distances = rng.permuted(np.tile(np.arange(80, dtype=np.float32), (20, 1)), axis=1)
    order = rng.permutation(80)
    before = rank(query, gallery, RULES, distances=lambda a, b: distances[a:b])
    after = rank(query, gallery.take(order), RULES, distances=lambda a, b: distances[a:b, order])
    for name in RULES:
        np.testing.assert_array_equal(before[name].first_match, after[name].first_match)
        np.testing.assert_allclose(before[name].average_precision, after[name].average_precision)


def test_queries_may_come_in_any_order():
    rng = np.random.default_rng(0)
    query, gallery = make_set(rng, 20), make_set(rng, 80)
    order = rng.permutation(20)
    before = rank(query, gallery, RULES)
    after = rank(query.take(order), gallery, RULES)
    for name in RULES:
        np.testing.assert_array_equal(before[name].first_match[order], after[name].first_match)


def test_distances_do_not_depend_on_the_block():
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (11, 5)), rng.integers(-9, 9, (30, 5))
    a, b = a.astype(np.float32), b.astype(np.float32)
    expected = ((a[:, None] - b) ** 2).sum(axis=2)
    rows = euclidean_rows(a, b)
    np.testing.assert_array_equal(np.concatenate([rows(0, 4), rows(4, 11)]), expected)


def test_rules_speak_of_themselves():
    rule = rules.SAME_CAMERA | ~rules.SAME_CLOTHES
    assert str(rule) == "(same camera or not same clothes)"
    assert rule.labels == {"camera", "clothes"}
