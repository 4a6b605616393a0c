"""DBSCAN on a sparse graph by connected components.

The same partition as scikit-learn's: its clusters are the components of the core samples,
numbered by their smallest core index, and a border sample belongs to the first of the clusters
that it touches, because clusters are grown to the end one after another in that order.
"""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

UNCLUSTERED = -1


def dbscan(similarity: sp.csr_array, eps: float, min_samples: int) -> np.ndarray:
    """Labels of DBSCAN at distance `eps` = 1 - similarity.

    Args:
        similarity: (N, N) symmetric CSR with the diagonal; absent entries are further than `eps`.
        eps: Largest distance between neighbours, below 1.
        min_samples: Neighbours, itself included, that make a sample a core sample.

    Returns:
        (N,) int32, clusters numbered from 0, -1 for unclustered samples.
    """
    num_rows = similarity.shape[0]
    near = np.float32(1) - similarity.data <= np.float32(eps)
    rows = np.repeat(np.arange(num_rows, dtype=np.int32), np.diff(similarity.indptr))[near]
    columns = similarity.indices[near]
    core = np.bincount(rows, minlength=num_rows) >= min_samples

    inside = core[rows] & core[columns]
    graph = sp.coo_array(
        (np.ones(inside.sum(), np.int8), (rows[inside], columns[inside])),
        shape=(num_rows, num_rows),
    )
    _, component = connected_components(graph, directed=False)
    labels = np.full(num_rows, UNCLUSTERED, np.int32)
    # Components are renumbered by their first core sample.
    _, first, number = np.unique(component[core], return_index=True, return_inverse=True)
    labels[core] = np.argsort(np.argsort(first)).astype(np.int32)[number]

    border = core[columns] & ~core[rows]
    first_touched = np.full(num_rows, np.iinfo(np.int32).max, np.int32)
    np.minimum.at(first_touched, rows[border], labels[columns[border]])
    touched = first_touched != np.iinfo(np.int32).max
    labels[touched] = first_touched[touched]
    return labels


def give_own_clusters(labels: np.ndarray) -> np.ndarray:
    """Every unclustered sample made a cluster of its own, numbered after the others.

    Args:
        labels: (N,) int32, -1 = unclustered.

    Returns:
        (N,) int32 contiguous labels.
    """
    alone = labels == UNCLUSTERED
    labels = labels.copy()
    clusters, labels[~alone] = np.unique(labels[~alone], return_inverse=True)
    labels[alone] = np.arange(len(clusters), len(clusters) + alone.sum())
    return labels
