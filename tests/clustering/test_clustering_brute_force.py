"""Equality with the formulas, over random inputs of every shape."""

import numpy as np
import pytest
import scipy.sparse as sp
from dense_formulas import (
    jaccard_distance,
    neighbor_lists,
    own_clusters,
    refinement_scores,
    same_partition,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from sicl_jax.clustering import cluster, jaccard_similarity, nearest_neighbors
from sicl_jax.clustering.dbscan import dbscan
from sicl_jax.clustering.jaccard import encode, similarity_graph
from sicl_jax.clustering.refinement import refinement_scores as sparse_scores

quick = settings(max_examples=60, deadline=None)


@st.composite
def clustered(draw, max_rows=70):
    """Unit rows around a few centres, some of them repeated."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(1, max_rows)), draw(st.integers(2, 8))
    centers = random.standard_normal((draw(st.integers(1, 6)), d))
    rows = centers[random.integers(len(centers), size=n)]
    rows = rows + draw(st.sampled_from([0.05, 0.3, 1.0])) * random.standard_normal((n, d))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    if draw(st.booleans()):
        rows = rows[random.integers(n, size=n)]
    return rows.astype(np.float32)


@st.composite
def tied(draw):
    """Rows of +-1/2 and axes: every product is exact, and most of them are tied."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 50))
    signs = random.choice([-0.5, 0.5], size=(n, 4))
    axes = np.eye(4)[random.integers(4, size=n)]
    return np.where(random.random((n, 1)) < 0.5, signs, axes).astype(np.float32)


k1s, k2s = st.integers(1, 40), st.integers(1, 8)


@quick
@given(tied(), k1s)
def test_neighbors_with_ties(features, k):
    found = nearest_neighbors(features, k, search="faiss")
    lists = neighbor_lists(features, k)
    np.testing.assert_array_equal(found.indices, lists)
    expected = np.take_along_axis(features @ features.T, lists, axis=1)
    np.testing.assert_array_equal(found.similarities, expected)


@settings(max_examples=8, deadline=None)  # Each shape is a compilation.
@given(tied(), k1s)
def test_neighbors_with_ties_jax(features, k):
    found = nearest_neighbors(features, k, search="jax")
    np.testing.assert_array_equal(found.indices, neighbor_lists(features, k))


@quick
@given(st.one_of(clustered(), tied()), k1s, k2s)
def test_jaccard(features, k1, k2):
    # The lists of the search, so that rounding among near-equal neighbours cannot tell.
    neighbors = nearest_neighbors(features, k1)
    similarity = similarity_graph(encode(features, neighbors, k1, k2)).toarray()
    distance = jaccard_distance(features, neighbors.indices.tolist(), k1, k2)
    np.testing.assert_allclose(1 - similarity, distance, atol=2e-5)
    np.testing.assert_array_equal(similarity, similarity.T)
    np.testing.assert_array_equal(similarity.diagonal(), 1)


@quick
@given(clustered(), k1s, k2s, st.floats(0.01, 0.99))
def test_min_similarity_leaves_out_nothing_else(features, k1, k2, bound):
    everything = jaccard_similarity(features, k1, k2).toarray()
    bounded = jaccard_similarity(features, k1, k2, bound)
    np.testing.assert_array_equal(
        bounded.toarray(), np.where(everything >= np.float32(bound), everything, 0)
    )
    assert bounded.has_sorted_indices
    assert bounded.nnz == np.count_nonzero(everything >= np.float32(bound))


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 6), st.floats(0.1, 0.9))
def test_dbscan_is_scikit_learns(seed, n, min_samples, eps):
    # Few distinct distances and sparse links: many border samples between clusters, many ties.
    random = np.random.default_rng(seed)
    similarity = random.integers(0, 11, (n, n)).astype(np.float32) / 10
    similarity *= random.random((n, n)) < random.choice([0.05, 0.2, 0.6])
    similarity = np.triu(similarity, 1)
    similarity = similarity + similarity.T + np.eye(n, dtype=np.float32)
    theirs = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(
        np.float32(1) - similarity
    )
    np.testing.assert_array_equal(dbscan(sp.csr_array(similarity), eps, min_samples), theirs)


@quick
@given(clustered(), k1s, k2s, st.integers(0, 2**32 - 1))
def test_refinement_scores(features, k1, k2, seed):
    # Any two labellings, not only nested ones: clusters cross, and some have one sample.
    n = len(features)
    random = np.random.default_rng(seed)
    labels, tight = (
        np.unique(random.integers(m, size=n), return_inverse=True)[1].astype(np.int32)
        for m in (1 + seed % 4, 7)
    )
    encoding = encode(features, nearest_neighbors(features, k1), k1, k2)
    distance = 1 - similarity_graph(encoding).toarray().astype(np.float64)
    ours = sparse_scores(encoding, labels, tight)
    expected = refinement_scores(distance, labels, tight)
    np.testing.assert_allclose(ours.tight, expected[0], atol=1e-5)
    np.testing.assert_allclose(ours.spread, expected[1], atol=1e-5)


@quick
@given(
    clustered(),
    st.integers(5, 30),
    st.integers(1, 8),
    st.floats(0.2, 0.9),
    st.floats(0, 0.15),
    st.integers(1, 5),
    st.sampled_from([0.5, 1.0, 2.0]),
)
def test_cluster(features, k1, k2, eps, eps_gap, min_samples, ratio):
    parameters = {"k1": k1, "k2": k2, "eps": eps, "eps_gap": eps_gap, "min_samples": min_samples}
    result = cluster(features, ratio=ratio, **parameters)
    lists = nearest_neighbors(features, k1).indices.tolist()
    distance = jaccard_distance(features, lists, k1, k2)

    labels, tight = (
        DBSCAN(eps=radius, min_samples=min_samples, metric="precomputed").fit_predict(distance)
        for radius in (eps, eps - eps_gap)
    )
    # Where a comparison hangs on the last bits, both answers are right.
    assume(min(abs(distance - eps).min(), abs(distance - (eps - eps_gap)).min()) > 1e-5)
    np.testing.assert_array_equal(result.dbscan_labels, labels)
    np.testing.assert_array_equal(result.tight_labels, tight)

    score, spread = refinement_scores(distance, own_clusters(labels), own_clusters(tight))
    clear = abs(ratio * score - spread) > 1e-5
    assume((clear | (score == 0)).all())
    kept = (ratio * score <= spread) | (score == 0)
    expected = own_clusters(np.where(kept, labels, -1))
    assert same_partition(result.labels, expected)


@pytest.mark.parametrize("seed", range(4))
def test_permuted_rows_give_the_same_clusters(seed):
    random = np.random.default_rng(seed)
    centers = random.standard_normal((20, 16))
    rows = centers[random.integers(20, size=600)] + 0.7 * random.standard_normal((600, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    order = random.permutation(len(rows))
    graph, permuted = jaccard_similarity(rows), jaccard_similarity(rows[order])
    np.testing.assert_allclose(graph[order][:, order].toarray(), permuted.toarray(), atol=1e-5)

    # A border sample between two clusters goes to the first of them, which is for DBSCAN a
    # matter of the order of the rows; all else is not.
    first, second = cluster(rows, refine=False), cluster(rows[order], refine=False)
    core = ((graph >= np.float32(0.4)).sum(axis=1) >= 4)[order]
    assert 3 < first.num_clusters < 600 > core.sum()
    ours, theirs = first.dbscan_labels[order], second.dbscan_labels
    np.testing.assert_array_equal(ours == -1, theirs == -1)
    assert same_partition(ours[core], theirs[core])


def test_permuted_rows_give_the_same_refined_clusters():
    random = np.random.default_rng(0)
    centers = random.standard_normal((20, 32))
    rows = centers[random.integers(20, size=600)] + random.standard_normal((600, 32))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    expected = cluster(rows)
    assert 10 < expected.num_clusters < 600 > expected.num_unclustered > 10
    for _ in range(4):
        order = random.permutation(len(rows))
        assert same_partition(cluster(rows[order]).labels, expected.labels[order])
