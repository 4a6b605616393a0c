"""Inputs at the edge of what clustering is made for, and what it refuses."""

import numpy as np
import pytest
from dense_formulas import neighbor_lists, same_partition

from sicl_jax.clustering import (
    cluster,
    cluster_prototypes,
    jaccard_similarity,
    nearest_neighbors,
    neighbor_clusters,
)
from sicl_jax.clustering.search import choose_search
from sicl_jax.errors import UsageError, UserError


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def groups():
    """Ten tight groups of eight rows, and their true labels."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 8)
    centers = unit(random.standard_normal((10, 32)))
    return unit(centers[labels] + 0.02 * random.standard_normal((80, 32))), labels


@pytest.mark.parametrize("search", ["faiss", "jax", "ivf"])
def test_engines_agree(groups, search):
    features, labels = groups
    found = nearest_neighbors(features, 8, search=search, probes=80)
    assert (labels[found.indices] == labels[:, None]).all()
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(80))
    if search != "ivf":
        np.testing.assert_array_equal(found.indices, neighbor_lists(features, 8))
    exact = np.take_along_axis(features @ features.T, found.indices, axis=1)
    np.testing.assert_allclose(found.similarities, exact, atol=2e-6)
    assert same_partition(cluster(features, k1=8, search=search).labels, labels)


def test_ivf_finds_nearly_all_when_it_reads_few_lists():
    random = np.random.default_rng(0)
    labels = random.integers(100, size=4000)
    centers = random.standard_normal((100, 16))
    features = unit(centers[labels] + 0.5 * random.standard_normal((4000, 16)))
    exact = nearest_neighbors(features, 20, search="faiss").indices
    found = nearest_neighbors(features, 20, search="ivf", probes=10).indices
    hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]
    assert 0.9 < np.mean(hits) / 20 < 1


def test_jax_search_in_several_blocks(groups, monkeypatch):
    features, _ = groups
    monkeypatch.setattr("sicl_jax.clustering.search.BLOCK_ELEMENTS", 80 * 33)
    found = nearest_neighbors(features, 11, search="jax")
    np.testing.assert_array_equal(found.indices, neighbor_lists(features, 11))


def test_jax_arrays_are_taken(groups):
    import jax.numpy as jnp

    features, labels = groups
    assert same_partition(cluster(jnp.asarray(features), k1=8).labels, labels)


def test_one_search_serves_several_clusterings(groups):
    features, labels = groups
    neighbors = nearest_neighbors(features, 8)
    result = cluster(features, k1=8, neighbors=neighbors)
    assert same_partition(result.labels, labels)
    assert result.search_seconds < 1e-3
    with pytest.raises(UsageError, match="neighbors"):
        cluster(features, k1=9, neighbors=neighbors)


def test_search_by_size():
    assert choose_search("auto", 999_999) == "faiss"  # JAX runs on the CPU in the tests.
    assert choose_search("auto", 1_000_000) == "ivf"
    assert choose_search("jax", 1_000_000) == "jax"


@pytest.mark.parametrize("count", [1, 2, 5, 29])
def test_fewer_rows_than_k1(count):
    features = unit(np.random.default_rng(count).standard_normal((count, 8)))
    result = cluster(features, min_samples=1)
    assert sorted(np.unique(result.labels)) == list(range(result.num_clusters))
    assert result.counts.sum() == count
    assert jaccard_similarity(features).shape == (count, count)


@pytest.mark.parametrize("count", [3, 30, 31, 100])
def test_all_alike(count):
    features = unit(np.ones((count, 4)))
    similarity = jaccard_similarity(features).toarray()
    np.testing.assert_array_equal(similarity.diagonal(), 1)
    result = cluster(features)
    if count <= 30:  # Everyone is in everyone's list.
        np.testing.assert_allclose(similarity, 1, atol=1e-6)
        assert result.num_clusters == (1 if count >= 4 else count)
    found = nearest_neighbors(features, 30).indices
    np.testing.assert_array_equal(found[:, 0], np.arange(count))
    assert all(len(set(row)) == min(30, count) for row in found.tolist())


def test_duplicates_stay_together(groups):
    features, labels = groups
    repeated = np.repeat(features, 3, axis=0)
    assert same_partition(cluster(repeated, k1=24).labels, np.repeat(labels, 3))


def test_distances_on_the_threshold_are_told(groups):
    """Eps a distance that many pairs have: copies of a group have its distances."""
    features, _ = groups
    cross = np.zeros((80, 64), np.float32)
    cross[:, :32] = features
    copies = np.concatenate([cross, np.roll(cross, 32, axis=1)])  # Far from one another.
    distances = 1 - jaccard_similarity(copies, 12).toarray()
    values, times = np.unique(distances[np.triu_indices(160, 1)], return_counts=True)
    within = (values > 0.05) & (values < 0.95)
    eps = float(values[within][times[within].argmax()])
    near = int((np.abs(distances - eps) <= 1e-6).sum()) // 2
    found = cluster(copies, k1=12, eps=eps, tight=False)
    assert found.num_ties == near > 1
    assert cluster(copies, k1=12, eps=eps + 0.001, tight=False).num_ties < near
    gap = cluster(copies, k1=12, eps=eps + 0.02, eps_gap=0.02)
    assert gap.num_ties >= near


def test_all_far_apart():
    result = cluster(np.eye(50, dtype=np.float32), k1=1, k2=1)
    np.testing.assert_array_equal(result.dbscan_labels, -1)
    np.testing.assert_array_equal(np.sort(result.labels), np.arange(50))
    assert result.num_clusters == result.num_unclustered == 50


def test_zero_rows_stay_alone(groups):
    features, labels = groups
    features = np.insert(features, [0, 40, 80], 0.0, axis=0)
    result = cluster(features, k1=8)
    zero = ~features.any(axis=1)
    assert (result.counts[result.labels[zero]] == 1).all()
    assert same_partition(result.labels[~zero], labels)
    found = nearest_neighbors(features, 8)
    assert not zero[found.indices[~zero]].any()
    np.testing.assert_array_equal(found.indices[zero][:, 1:], -1)


def test_only_zero_rows():
    result = cluster(np.zeros((5, 3), np.float32))
    np.testing.assert_array_equal(np.sort(result.labels), np.arange(5))


def test_rows_are_brought_to_unit_length(groups):
    features, _ = groups
    scaled = features * np.linspace(0.5, 3, 80, dtype=np.float32)[:, None]
    before = scaled.copy()
    np.testing.assert_allclose(
        jaccard_similarity(scaled, 8, 3).toarray(),
        jaccard_similarity(features, 8, 3).toarray(),
        atol=1e-6,
    )
    np.testing.assert_array_equal(scaled, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused_with_its_row(groups, value):
    features, _ = groups
    features[17, 3] = value
    with pytest.raises(UserError, match=r"row 17\b"):
        cluster(features)
    with pytest.raises(UserError, match=r"row 17\b"):
        jaccard_similarity(features)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (2, 2, 2)])
def test_no_matrix_is_refused(shape):
    with pytest.raises(UserError, match="shape"):
        cluster(np.ones(shape, np.float32))


@pytest.mark.parametrize(
    "wrong",
    [
        {"k1": 0},
        {"k2": 0},
        {"eps": 1.0},
        {"eps": 0.0},
        {"eps_gap": 0.6},
        {"eps_gap": -0.1},
        {"min_samples": 0},
        {"ratio": -1.0},
        {"ratio": float("nan")},
        {"search": "annoy"},
        {"probes": 0},
    ],
)
def test_parameters_out_of_range_are_refused(groups, wrong):
    (name,) = wrong
    with pytest.raises(UsageError, match=name):
        cluster(groups[0], **wrong)


def test_refinement_expels_what_the_tight_clusters_leave():
    # A chain of samples: one cluster at eps, pieces at the tighter eps.
    angles = np.sort(np.random.default_rng(3).uniform(0, np.pi, 120))
    features = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    parameters = {"k1": 12, "k2": 3, "eps": 0.55, "eps_gap": 0.3}
    refined = cluster(features, **parameters)
    plain = cluster(features, refine=False, **parameters)
    strict = cluster(features, ratio=1e6, **parameters)
    assert plain.num_unclustered <= refined.num_unclustered <= strict.num_unclustered
    assert plain.num_unclustered < strict.num_unclustered
    np.testing.assert_array_equal(plain.dbscan_labels, refined.dbscan_labels)
    # Whatever is kept is kept with the samples that it was clustered with.
    kept = refined.counts[refined.labels] > 1
    assert same_partition(refined.labels[kept], refined.dbscan_labels[kept])
    for result in (plain, refined, strict):
        assert sorted(np.unique(result.labels)) == list(range(result.num_clusters))
        assert result.labels.dtype == np.int32


@pytest.mark.parametrize("search", ["faiss", "jax"])
@pytest.mark.parametrize("compat", ["paper", "released"])
def test_neighbor_clusters_by_hand(compat, search):
    random = np.random.default_rng(5)
    bank, labels = unit(random.standard_normal((300, 16))), random.integers(70, size=300)
    labels = np.unique(labels, return_inverse=True)[1]
    means = np.stack([bank[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    np.testing.assert_allclose(cluster_prototypes(bank, labels), means, atol=1e-6)
    if compat == "paper":
        directions = unit(means)
        expected = directions @ directions.T
    else:
        expected = means @ means.T / (means**2).sum()
    np.fill_diagonal(expected, -np.inf)
    order = np.argsort(-expected, axis=1)[:, :9]
    found, similarities = neighbor_clusters((bank, labels), 9, compat, search=search)
    np.testing.assert_array_equal(found, order)
    np.testing.assert_allclose(
        similarities, np.take_along_axis(expected, order, 1), rtol=1e-4, atol=1e-7
    )
    assert found.dtype == np.int32
    assert similarities.dtype == np.float32


def test_neighbor_lists_longer_than_the_clusters_are_padded():
    found, similarities = neighbor_clusters(np.eye(3, dtype=np.float32), 5)
    assert found.shape == similarities.shape == (3, 5)
    np.testing.assert_array_equal(np.sort(found[:, :2]), [[1, 2], [0, 2], [0, 1]])
    np.testing.assert_array_equal(found[:, 2:], np.arange(3)[:, None] * np.ones((1, 3), int))
    np.testing.assert_array_equal(similarities[:, 2:], 0)


def test_no_neighbors_asked_for():
    found, similarities = neighbor_clusters(np.eye(3, dtype=np.float32), 0)
    assert found.shape == similarities.shape == (3, 0)


def test_neighbors_of_identical_clusters_leave_out_the_cluster_itself():
    found, similarities = neighbor_clusters(np.ones((40, 4), np.float32), 6)
    assert not (found == np.arange(40)[:, None]).any()
    np.testing.assert_allclose(similarities, 1, atol=1e-6)


def test_clusters_of_many_counts_share_programs():
    from sicl_jax.clustering.search import _jax_block

    _jax_block.cache_clear()
    random = np.random.default_rng(0)
    for count in range(20, 200, 12):
        neighbor_clusters(unit(random.standard_normal((count, 8))), 4, search="jax")
    blocks = _jax_block.cache_info().currsize
    assert blocks <= 4  # Padded to 64, 96, 128 and 192 rows.


@pytest.mark.parametrize("labels", [[0, 1, 3], [0, 1], [-1, 0, 1]])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(UserError, match="labels"):
        neighbor_clusters((np.eye(3, dtype=np.float32), np.array(labels)), 1)


def test_neighbor_parameters_are_checked():
    with pytest.raises(UsageError, match="compat"):
        neighbor_clusters(np.eye(3), 1, "published")
    with pytest.raises(UsageError, match="num_neighbors"):
        neighbor_clusters(np.eye(3), -1)
