"""Sparse re-ranking against the paper's formulas written densely, and its laws."""

import numpy as np
import pytest

from sicl_jax.evaluation.distances import euclidean_rows
from sicl_jax.evaluation.reranking import Reranking, reranked_rows


def dense(queries, gallery, k1, k2, weight):
    """Zhong et al. 2017, section 3, on N x N arrays."""
    points = np.concatenate([queries, gallery]).astype(np.float64)
    distances = ((points[:, None] - points) ** 2).sum(axis=2)
    relative = (distances / distances.max(axis=1, keepdims=True)) ** 2
    np.fill_diagonal(distances, -1)
    nearest = np.argsort(distances, axis=1, kind="stable")

    def reciprocal(i, k):
        return {j for j in nearest[i, : k + 1] if i in nearest[j, : k + 1]}

    vectors = np.zeros_like(relative)
    for i in range(len(points)):
        members = reciprocal(i, k1)
        expanded = set(members)
        for j in members:
            half = reciprocal(j, round(k1 / 2))
            if len(half & members) > 2 / 3 * len(half):
                expanded |= half
        rows = sorted(expanded)
        vectors[i, rows] = np.exp(-relative[i, rows])
    vectors /= vectors.sum(axis=1, keepdims=True)
    vectors = np.stack([vectors[nearest[i, :k2]].mean(axis=0) for i in range(len(points))])
    smaller = np.minimum(vectors[: len(queries), None], vectors[len(queries) :]).sum(axis=2)
    jaccard = 1 - smaller / (2 - smaller)
    return (1 - weight) * jaccard + weight * relative[: len(queries), len(queries) :]


def people(seed, count, dim=6):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, dim))
    points = centres[rng.integers(5, size=count)] + 0.4 * rng.normal(size=(count, dim))
    return points.astype(np.float32)


@pytest.mark.parametrize(
    ("k1", "k2", "weight"), [(20, 6, 0.3), (7, 1, 0.0), (4, 3, 1.0), (1, 2, 0.5), (500, 500, 0.3)]
)
def test_like_the_formulas(k1, k2, weight):
    queries, gallery = people(k1, 15), people(k1 + 1, 60)
    found = reranked_rows(queries, gallery, Reranking(k1, k2, weight))(0, 15)
    expected = dense(queries, gallery, k1, min(k2, 75), weight)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_duplicates_are_equally_far():
    """Points at no distance from each other, and more of them than neighbours."""
    queries = np.zeros((2, 3), np.float32)
    gallery = np.concatenate([np.zeros((30, 3)), np.ones((4, 3))]).astype(np.float32)
    found = reranked_rows(queries, gallery, Reranking(5, 2))(0, 2)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, dense(queries, gallery, 5, 2, 0.3), atol=2e-6)


def test_points_that_are_all_the_same():
    found = reranked_rows(np.ones((3, 2), np.float32), np.ones((9, 2), np.float32))(0, 3)
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_the_whole_weight_leaves_the_order():
    queries, gallery = people(0, 10), people(1, 50)
    found = reranked_rows(queries, gallery, Reranking(weight=1.0))(0, 10)
    plain = euclidean_rows(queries, gallery)(0, 10)
    np.testing.assert_array_equal(np.argsort(found, axis=1), np.argsort(plain, axis=1))
