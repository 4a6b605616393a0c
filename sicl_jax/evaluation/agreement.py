"""How well clusters agree with identities, where these are known.

For people who watch a training: identities never enter it.
"""

import numpy as np
from jaxtyping import Int

from sicl_jax.evaluation.features import UNKNOWN


def agreement(labels: Int[np.ndarray, "N"], identities: Int[np.ndarray, "N"]) -> dict[str, float]:
    """Adjusted Rand index, normalised mutual information and purity of clusters.

    Args:
        labels: Cluster of each image; an unclustered image is the only one of its cluster.
        identities: Identity of each image, -1 unknown; such images are left out.

    Returns:
        `ari` (Hubert and Arabie, 1985; 0 is chance, 1 agreement) and `nmi` (arithmetic mean, 0 to
        1), over all images; `purity`, the share of images that are of their cluster's commonest
        identity, over images in clusters of two or more, since one alone is always pure. Purity
        is left out where all are alone, and everything where no identity is known.
    """
    known = identities != UNKNOWN
    labels, identities = labels[known], identities[known]
    if not len(labels):
        return {}
    from sklearn import metrics  # Takes a second or more to import, which few commands need.

    figures = {
        "ari": float(metrics.adjusted_rand_score(identities, labels)),
        "nmi": float(metrics.normalized_mutual_info_score(identities, labels)),
    }
    _, cluster, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    grouped = sizes[cluster] > 1
    if grouped.any():
        figures["purity"] = _purity(cluster[grouped], identities[grouped])
    return figures


def neighbor_agreement(
    labels: Int[np.ndarray, "N"],
    identities: Int[np.ndarray, "N"],
    neighbors: Int[np.ndarray, "C K"],
) -> dict[str, float]:
    """How many of the clusters' neighbours show the same person; a cluster's commonest counts.

    Args:
        labels: Cluster of each image, from 0.
        identities: Identity of each image, -1 unknown.
        neighbors: K neighbour clusters of each cluster.

    Returns:
        `neighbors_right`, the share of them, and `neighbors_possible`, the largest that it can be:
        a person has only so many clusters. Empty where an identity is unknown or K is 0.
    """
    if not neighbors.size or (identities == UNKNOWN).any():
        return {}
    person = _commonest(labels, identities)
    _, who, clusters = np.unique(person, return_inverse=True, return_counts=True)
    possible = np.minimum(clusters[who] - 1, neighbors.shape[1]) / neighbors.shape[1]
    right = person[neighbors] == person[:, None]
    return {
        "neighbors_right": float(right.mean()),
        "neighbors_possible": float(possible.mean()),
    }


def matching_agreement(
    labels: Int[np.ndarray, "N"],
    identities: Int[np.ndarray, "N"],
    pairs: Int[np.ndarray, "P 2"],
) -> dict[str, float]:
    """How many of matched pairs of clusters show one person; a cluster's commonest counts.

    Args:
        labels: Cluster of each image, from 0; -1 for images in none.
        identities: Identity of each image, -1 unknown.
        pairs: Two clusters each.

    Returns:
        `pairs_right`, the share of them. Empty where an identity is unknown, or there is no pair.
    """
    grouped = labels >= 0
    labels, identities = labels[grouped], identities[grouped]
    if not len(pairs) or (identities == UNKNOWN).any():
        return {}
    person = _commonest(labels, identities)[pairs]
    return {"pairs_right": float(np.mean(person[:, 0] == person[:, 1]))}


def _commonest(labels: np.ndarray, identities: np.ndarray) -> np.ndarray:
    """(C,), the identity that most images of each cluster have; the least of equals."""
    pairs, counts = np.unique(np.stack([labels, identities], 1), axis=0, return_counts=True)
    order = np.lexsort((-counts, pairs[:, 0]))
    first = order[np.r_[True, np.diff(pairs[order, 0]) > 0]]
    return pairs[first, 1]


def _purity(clusters: np.ndarray, identities: np.ndarray) -> float:
    pairs, counts = np.unique(np.stack([clusters, identities], 1), axis=0, return_counts=True)
    commonest = np.zeros(pairs[:, 0].max() + 1, int)
    np.maximum.at(commonest, pairs[:, 0], counts)
    return float(commonest.sum() / len(clusters))
