"""`clustering.npz`: Jaccard distance, DBSCAN, refinement, neighbour clusters (algorithm.md 4)."""

from collections.abc import Iterator

import numpy as np

from sicl_jax import clustering
from sicl_jax.clustering.dbscan import give_own_clusters
from sicl_jax.clustering.jaccard import encode
from sicl_jax.clustering.refinement import refinement_scores
from sicl_jax.verify.checks import Check, relative_error
from sicl_jax.verify.files import Golden

_TOLERANCE = 1e-4


def check(golden: Golden) -> Iterator[Check]:
    """Recomputes the file."""
    features = golden["features"].astype(np.float32)
    k1, k2 = int(golden["k1"]), int(golden["k2"])
    similarity = clustering.jaccard_similarity(features, k1, k2).toarray()
    yield golden.check("jaccard_distance", 1 - similarity, _TOLERANCE)

    found = clustering.cluster(
        features,
        k1=k1,
        k2=k2,
        eps=float(golden["eps"]),
        eps_gap=float(golden["eps_gap"]),
        min_samples=int(golden["min_samples"]),
    )
    labels = give_own_clusters(found.dbscan_labels)
    tight = give_own_clusters(found.tight_labels)
    yield golden.check_partition("dbscan_labels", found.dbscan_labels)
    yield golden.check_partition("dbscan_labels_tight", found.tight_labels)
    yield golden.check_partition("pseudo_labels", labels)
    yield golden.check_partition("pseudo_labels_tight", tight)

    neighbors = clustering.nearest_neighbors(features, k1)
    scores = refinement_scores(encode(features, neighbors, k1, k2), labels, tight)
    yield golden.check("sample_tight_score", scores.tight, _TOLERANCE)
    spread = golden.expected("cluster_score")[golden["pseudo_labels"]]
    yield golden.verdict("cluster_score", relative_error(scores.spread, spread), _TOLERANCE)
    yield golden.check_partition("refined_labels", found.labels)
    yield from _check_neighbors(golden)


def _check_neighbors(golden: Golden) -> Iterator[Check]:
    """The similar clusters of each, under both formulas; the file lists the cluster itself too."""
    labels = np.unique(golden["refined_labels"], return_inverse=True)[1]
    features = golden["fusion_features"].astype(np.float32)
    prototypes = clustering.cluster_prototypes(features, labels)
    for name, compat in {"cosine": "paper", "released": "released"}.items():
        theirs = golden[f"neighbor_labels_{name}"]
        values = golden.expected(f"neighbor_similarity_{name}")
        others, expected = _without_own(theirs, values)
        found, similarity = clustering.neighbor_clusters(prototypes, others.shape[1], compat)
        error = _ranking_error(found, others, expected)
        yield golden.verdict(f"neighbor_labels_{name}", error, _TOLERANCE)
        error = relative_error(similarity, expected)
        yield golden.verdict(f"neighbor_similarity_{name}", error, _TOLERANCE)


def _without_own(labels: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Takes each cluster out of its own list, or the last entry where it is not in it."""
    kept = labels != np.arange(len(labels))[:, None]
    kept[kept.all(axis=1), -1] = False
    shape = (len(labels), -1)
    return labels[kept].reshape(shape), values[kept].reshape(shape)


def _ranking_error(found: np.ndarray, others: np.ndarray, values: np.ndarray) -> float:
    """How far apart in similarity the places are at which two lists differ.

    Neighbours of equal similarity may stand in either order; one that is only in our list is
    as similar as the last of theirs at best.
    """
    error = 0.0
    for row in range(len(found)):
        similarity = dict(zip(others[row].tolist(), values[row].tolist(), strict=True))
        for ours, place in zip(found[row].tolist(), values[row].tolist(), strict=True):
            error = max(error, abs(similarity.get(ours, values[row, -1]) - place))
    return error / np.abs(values).max()
