"""The published code's numbers."""

from pathlib import Path

import numpy as np
import pytest

from sicl_jax.clustering import cluster, jaccard_similarity, neighbor_clusters
from sicl_jax.clustering.jaccard import encode
from sicl_jax.clustering.refinement import refinement_scores
from sicl_jax.clustering.search import nearest_neighbors

SEARCHES = ("faiss", "jax")


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "golden" / "clustering.npz") as file:
        return dict(file)


@pytest.fixture(scope="module", params=SEARCHES)
def clustering(request, golden):
    return cluster(
        golden["features"],
        k1=int(golden["k1"]),
        k2=int(golden["k2"]),
        eps=float(golden["eps"]),
        eps_gap=float(golden["eps_gap"]),
        min_samples=int(golden["min_samples"]),
        search=request.param,
    )


def assert_same_partition(labels, expected):
    pairs = np.unique(np.stack([labels, expected]), axis=1).shape[1]
    assert pairs == len(np.unique(labels)) == len(np.unique(expected))


@pytest.mark.parametrize("search", SEARCHES)
def test_jaccard_distance(golden, search):
    similarity = jaccard_similarity(
        golden["features"], int(golden["k1"]), int(golden["k2"]), search=search
    )
    distance = 1 - similarity.toarray()
    np.testing.assert_allclose(distance, golden["jaccard_distance"], rtol=1e-4, atol=1e-6)
    assert similarity.nnz == np.count_nonzero(golden["jaccard_distance"] < 1)


def test_dbscan_partitions(golden, clustering):
    for ours, theirs in (
        (clustering.dbscan_labels, golden["dbscan_labels"]),
        (clustering.tight_labels, golden["dbscan_labels_tight"]),
    ):
        np.testing.assert_array_equal(ours == -1, theirs == -1)
        assert_same_partition(ours, theirs)


def test_refined_partition(golden, clustering):
    assert_same_partition(clustering.labels, golden["refined_labels"])
    assert clustering.num_clusters == len(np.unique(golden["refined_labels"]))
    np.testing.assert_array_equal(clustering.counts, np.bincount(clustering.labels))


def test_unrefined_partition(golden):
    unrefined = cluster(golden["features"], k1=20, k2=6, eps=0.5, eps_gap=0.05, refine=False)
    assert_same_partition(unrefined.labels, golden["pseudo_labels"])


def test_refinement_scores(golden):
    neighbors = nearest_neighbors(golden["features"], int(golden["k1"]))
    encoding = encode(golden["features"], neighbors, int(golden["k1"]), int(golden["k2"]))
    labels, tight = golden["pseudo_labels"], golden["pseudo_labels_tight"]
    scores = refinement_scores(encoding, labels.astype(np.int32), tight.astype(np.int32))
    np.testing.assert_allclose(scores.tight, golden["sample_tight_score"], rtol=1e-4, atol=1e-6)
    expected = golden["cluster_score"][labels]
    np.testing.assert_allclose(scores.spread, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("compat", ["paper", "released"])
def test_neighbor_clusters(golden, compat, search):
    name = {"paper": "cosine", "released": "released"}[compat]
    labels, similarities = neighbor_clusters(
        (golden["fusion_features"], golden["refined_labels"]), 7, compat, search=search
    )
    own = np.arange(len(labels))[:, None]
    for c, (theirs, values) in enumerate(
        zip(golden[f"neighbor_labels_{name}"], golden[f"neighbor_similarity_{name}"], strict=True)
    ):
        others = theirs != own[c]
        np.testing.assert_array_equal(labels[c], theirs[others][:7])
        np.testing.assert_allclose(similarities[c], values[others][:7], rtol=1e-4)
