"""Pseudo-labels from features: search, Jaccard distance, DBSCAN, and SiCL's refinement (sec. 4)."""

import time
from dataclasses import dataclass

import numpy as np

from sicl_jax.clustering.dbscan import UNCLUSTERED, dbscan, give_own_clusters
from sicl_jax.clustering.jaccard import check_neighbor_counts, encode, similarity_graph
from sicl_jax.clustering.refinement import refine as refine_labels
from sicl_jax.clustering.search import Neighbors, Search, nearest_neighbors, unit_rows
from sicl_jax.errors import UsageError

ROUNDING = 1e-6  # Float32 rounding of a similarity: the graph is cut wider, DBSCAN exactly.


@dataclass(frozen=True)
class Clustering:
    """Pseudo-labels of N samples.

    Attributes:
        labels: (N,) int32, contiguous; every unclustered sample is a cluster of its own or, where
            there was no tight clustering, -1.
        dbscan_labels: (N,) int32 at `eps`, -1 = unclustered.
        tight_labels: (N,) int32 at `eps - eps_gap`, -1 = unclustered; None if not asked for.
        counts: (num_clusters,) int32, samples of each cluster of `labels`.
        search_seconds: Time of the neighbour search, practically 0 where its lists were given.
        rest_seconds: Time of everything else.
        num_ties: Pairs whose distance is within 1e-6 of `eps` (or of `eps - eps_gap`), so that
            rounding decides whether they are neighbours.
    """

    labels: np.ndarray
    dbscan_labels: np.ndarray
    tight_labels: np.ndarray | None
    counts: np.ndarray
    search_seconds: float
    rest_seconds: float
    num_ties: int = 0

    @property
    def num_clusters(self) -> int:
        """Clusters of `labels`, those of one sample included."""
        return len(self.counts)

    @property
    def num_unclustered(self) -> int:
        """Samples that no other shares a cluster with, or that are in none."""
        if self.tight_labels is None:
            return int((self.labels == UNCLUSTERED).sum())
        return int((self.counts == 1).sum())


def cluster(
    features,
    *,
    k1: int = 30,
    k2: int = 6,
    eps: float = 0.6,
    eps_gap: float = 0.02,
    min_samples: int = 4,
    tight: bool = True,
    refine: bool = True,
    ratio: float = 1.0,
    search: Search = "auto",
    probes: int = 64,
    neighbors: Neighbors | None = None,
) -> Clustering:
    """Clusters features into pseudo-identities.

    Args:
        features: (N, D) rows of unit length (others are brought to it), NumPy or JAX.
        k1: Neighbours searched, the row itself among them.
        k2: Neighbours averaged over, the row itself among them.
        eps: DBSCAN's largest Jaccard distance between neighbours, 0 < eps < 1.
        eps_gap: The tight clustering is at eps - eps_gap, 0 <= eps_gap < eps.
        min_samples: DBSCAN's neighbours, itself included, that make a core sample.
        tight: Whether to cluster at eps - eps_gap as well, as SiCL does. False is DBSCAN at eps
            and nothing else, unclustered samples labelled -1 (CCLNet, Cluster Contrast).
        refine: Whether the tight clusters decide who stays in the clusters of `eps`.
        ratio: Weight of the tight clusters' score in refinement; above 1 keeps fewer samples.
        search: Engine of the neighbour search: auto, faiss, jax or ivf, see `search.py`.
        probes: Inverted lists read per row when the search is ivf.
        neighbors: Lists of an earlier search of the same features with the same k1, to try other
            parameters without searching again.

    Raises:
        UserError: Features that are no matrix, or with NaN or infinities (names the row).
        UsageError: A parameter out of its range.
    """
    check_neighbor_counts(k1, k2)
    if not (0 < eps < 1 and (not tight or 0 <= eps_gap < eps)):
        raise UsageError(f"eps = {eps}, eps_gap = {eps_gap}: needs 0 <= eps_gap < eps < 1, eps > 0")
    if min_samples < 1:
        raise UsageError(f"min_samples = {min_samples}: has to be at least 1")
    if not ratio >= 0:
        raise UsageError(f"ratio = {ratio}: has to be 0 or more")
    started = time.perf_counter()
    features = unit_rows(features)
    prepared = time.perf_counter()
    expected = (len(features), min(k1, len(features)))
    if neighbors is None:
        neighbors = nearest_neighbors(features, k1, search=search, probes=probes)
    elif neighbors.indices.shape != expected:
        raise UsageError(f"neighbors: shape {neighbors.indices.shape}, k1 = {k1} needs {expected}")
    searched = time.perf_counter()
    encoding = encode(features, neighbors, k1, k2)
    graph = similarity_graph(encoding, 1 - eps - ROUNDING)
    dbscan_labels = dbscan(graph, eps, min_samples)
    tight_labels = dbscan(graph, eps - eps_gap, min_samples) if tight else None
    if not tight:
        labels = dbscan_labels
    elif refine:
        labels = refine_labels(encoding, dbscan_labels, tight_labels, ratio)
    else:
        labels = give_own_clusters(dbscan_labels)
    thresholds = {eps, eps - eps_gap} if tight else {eps}
    num_ties = sum(_ties(graph, threshold) for threshold in thresholds)
    ended = time.perf_counter()
    return Clustering(
        labels=labels,
        dbscan_labels=dbscan_labels,
        tight_labels=tight_labels,
        counts=np.bincount(labels[labels != UNCLUSTERED]).astype(np.int32),
        search_seconds=searched - prepared,
        rest_seconds=ended - searched + prepared - started,
        num_ties=num_ties,
    )


def _ties(graph, threshold: float) -> int:
    """Pairs of rows whose distance is a threshold up to rounding; the graph has each twice."""
    distances = np.float32(1) - graph.data
    return int(np.count_nonzero(np.abs(distances - np.float32(threshold)) <= ROUNDING)) // 2
