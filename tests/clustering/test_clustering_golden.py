"""The published code's numbers."""

import numpy as np
import pytest
from dense_formulas import same_partition

from sicl_jax.clustering import cluster, jaccard_similarity, neighbor_clusters
from sicl_jax.clustering.jaccard import encode
from sicl_jax.clustering.refinement import refinement_scores
from sicl_jax.clustering.search import nearest_neighbors

SEARCHES = ("faiss", "jax")


@pytest.fixture(scope="module")
def numbers(golden):
    return golden("clustering")


@pytest.fixture(scope="module", params=SEARCHES)
def clustering(request, numbers):
    return cluster(
        numbers["features"],
        k1=int(numbers["k1"]),
        k2=int(numbers["k2"]),
        eps=float(numbers["eps"]),
        eps_gap=float(numbers["eps_gap"]),
        min_samples=int(numbers["min_samples"]),
        search=request.param,
    )


@pytest.mark.parametrize("search", SEARCHES)
def test_jaccard_distance(numbers, search):
    similarity = jaccard_similarity(
        numbers["features"], int(numbers["k1"]), int(numbers["k2"]), search=search
    )
    distance = 1 - similarity.toarray()
    np.testing.assert_allclose(distance, numbers["jaccard_distance"], rtol=1e-4, atol=1e-6)
    assert similarity.nnz == np.count_nonzero(numbers["jaccard_distance"] < 1)


def test_dbscan_partitions(numbers, clustering):
    for ours, theirs in (
        (clustering.dbscan_labels, numbers["dbscan_labels"]),
        (clustering.tight_labels, numbers["dbscan_labels_tight"]),
    ):
        np.testing.assert_array_equal(ours == -1, theirs == -1)
        assert same_partition(ours, theirs)


def test_refined_partition(numbers, clustering):
    assert same_partition(clustering.labels, numbers["refined_labels"])
    assert clustering.num_clusters == len(np.unique(numbers["refined_labels"]))
    np.testing.assert_array_equal(clustering.counts, np.bincount(clustering.labels))


def test_unrefined_partition(numbers):
    unrefined = cluster(numbers["features"], k1=20, k2=6, eps=0.5, eps_gap=0.05, refine=False)
    assert same_partition(unrefined.labels, numbers["pseudo_labels"])


def test_clusters_of_cluster_contrast(golden):
    """DBSCAN once; what is in no cluster is left out."""
    numbers = golden("cluster_contrast/epoch")
    parameters = {name: numbers[name].item() for name in ("k1", "k2", "eps", "min_samples")}
    found = cluster(numbers["features"], **parameters, tight=False)
    np.testing.assert_array_equal(found.labels == -1, numbers["labels"] == -1)
    assert same_partition(found.labels, numbers["labels"])
    assert found.num_clusters == len(numbers["memory"])
    assert found.num_unclustered == len(numbers["labels"]) - len(numbers["used"])
    assert found.tight_labels is None and found.counts.sum() == len(numbers["used"])


def test_refinement_scores(numbers):
    neighbors = nearest_neighbors(numbers["features"], int(numbers["k1"]))
    encoding = encode(numbers["features"], neighbors, int(numbers["k1"]), int(numbers["k2"]))
    labels, tight = numbers["pseudo_labels"], numbers["pseudo_labels_tight"]
    scores = refinement_scores(encoding, labels.astype(np.int32), tight.astype(np.int32))
    np.testing.assert_allclose(scores.tight, numbers["sample_tight_score"], rtol=1e-4, atol=1e-6)
    expected = numbers["cluster_score"][labels]
    np.testing.assert_allclose(scores.spread, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("compat", ["paper", "released"])
def test_neighbor_clusters(numbers, compat, search):
    name = {"paper": "cosine", "released": "released"}[compat]
    labels, similarities = neighbor_clusters(
        (numbers["fusion_features"], numbers["refined_labels"]), 7, compat, search=search
    )
    own = np.arange(len(labels))[:, None]
    for c, (theirs, values) in enumerate(
        zip(numbers[f"neighbor_labels_{name}"], numbers[f"neighbor_similarity_{name}"], strict=True)
    ):
        others = theirs != own[c]
        np.testing.assert_array_equal(labels[c], theirs[others][:7])
        np.testing.assert_allclose(similarities[c], values[others][:7], rtol=1e-4)
