"""Refinement of clusters by a tighter clustering (SiCL, section on pseudo-labels).

All sums run over the pairs that overlap: another pair has d = 1, so a mean distance is one minus
the sum of the similarities over the count.
"""

from typing import NamedTuple

import numpy as np

from sicl_jax.clustering import kernels
from sicl_jax.clustering.blocks import map_blocks
from sicl_jax.clustering.dbscan import UNCLUSTERED, give_own_clusters
from sicl_jax.clustering.jaccard import BLOCK_ROWS, Encoding


class Scores(NamedTuple):
    """Both sides of the refinement test.

    Attributes:
        tight: (N,) float64, J of each sample's tight cluster.
        spread: (N,) float64, I of each sample's cluster.
    """

    tight: np.ndarray
    spread: np.ndarray


def refinement_scores(encoding: Encoding, labels: np.ndarray, tight_labels: np.ndarray) -> Scores:
    """I and J of every sample.

    I(C) is the mean distance over all ordered pairs of C, a sample with itself included. J(T) is
    the sum over i in T of [sum_j d(i, j) / count_i^2], where j runs over the count_i samples that
    share i's cluster or its tight cluster but not both.

    Args:
        encoding: The k-reciprocal encoding.
        labels: (N,) int32 contiguous, every unclustered sample a cluster of its own.
        tight_labels: (N,) int32 likewise, at the tighter eps.
    """
    num_rows = len(labels)
    sizes = np.bincount(labels)
    tight_sizes = np.bincount(tight_labels)
    _, part, part_sizes = np.unique(
        labels.astype(np.int64) * num_rows + tight_labels, return_inverse=True, return_counts=True
    )
    counts = sizes[labels] + tight_sizes[tight_labels] - 2 * part_sizes[part]

    same, differing = _sums_within(encoding, labels, tight_labels, sizes, tight_sizes)
    spread_sums = np.bincount(labels, weights=sizes[labels] - 1 - same)
    spread = np.maximum(spread_sums, 0) / sizes.astype(float) ** 2
    outside = np.maximum(counts - differing, 0) / np.maximum(counts, 1).astype(float) ** 2
    return Scores(np.bincount(tight_labels, weights=outside)[tight_labels], spread[labels])


def refine(
    encoding: Encoding, dbscan_labels: np.ndarray, tight_labels: np.ndarray, ratio: float
) -> np.ndarray:
    """Keeps a sample in its cluster when ratio * J <= I; makes it a cluster of one otherwise.

    Args:
        encoding: The k-reciprocal encoding.
        dbscan_labels: (N,) int32, -1 = unclustered.
        tight_labels: (N,) int32 likewise, at the tighter eps.
        ratio: Above 1 fewer samples are kept, below 1 more.

    Returns:
        (N,) int32 contiguous labels.
    """
    scores = refinement_scores(
        encoding, give_own_clusters(dbscan_labels), give_own_clusters(tight_labels)
    )
    kept = ratio * scores.tight <= scores.spread
    return give_own_clusters(np.where(kept, dbscan_labels, UNCLUSTERED).astype(np.int32))


def _sums_within(encoding, labels, tight_labels, sizes, tight_sizes):
    """Per sample, the similarities summed over its cluster, and over one of its two clusters."""
    same = np.zeros(len(labels))
    differing = np.zeros(len(labels))
    needed = (sizes[labels] > 1) | (tight_sizes[tight_labels] > 1)

    def block(first, last, scratch):
        kernels.sums_within(
            *encoding.arrays,
            labels,
            tight_labels,
            needed,
            first,
            last,
            scratch.seen,
            scratch.sums,
            scratch.touched,
            same,
            differing,
        )

    for _ in map_blocks(block, len(labels), BLOCK_ROWS):
        pass
    return same, differing
