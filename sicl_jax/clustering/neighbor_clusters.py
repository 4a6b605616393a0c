"""The most similar other clusters of each cluster (SiCL, neighbour term)."""

from typing import Literal

import numpy as np
import scipy.sparse as sp

from sicl_jax.clustering.search import Search, top_products
from sicl_jax.errors import UsageError, UserError


def cluster_prototypes(bank, labels) -> np.ndarray:
    """Means of the rows of each cluster.

    Args:
        bank: (N, D) rows, NumPy or JAX.
        labels: (N,) contiguous integers from 0.

    Returns:
        (C, D) float32.

    Raises:
        UserError: Lengths differ, or a label between 0 and the largest is used by no row.
    """
    bank = np.asarray(bank, np.float32)
    labels = np.asarray(labels)
    if labels.shape != bank.shape[:1] or len(labels) == 0 or labels.min() < 0:
        raise UserError(
            f"labels: shape {labels.shape}, bank: shape {bank.shape}; "
            "expected one label from 0 on for each row"
        )
    counts = np.bincount(labels)
    if not counts.all():
        raise UserError(f"labels: {int(np.argmin(counts))} is used by no row; make them contiguous")
    weights = (np.float32(1) / counts[labels]).astype(np.float32)
    members = (labels, np.arange(len(labels)))
    return sp.coo_array((weights, members), shape=(len(counts), len(labels))).tocsr() @ bank


def neighbor_clusters(
    prototypes,
    num_neighbors: int,
    compat: Literal["paper", "released"] = "paper",
    *,
    search: Search = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """The `num_neighbors` most similar other clusters of each cluster, most similar first.

    `paper` compares prototypes by their cosine; `released`, as the published code does, by
    prototype_a . prototype_b / sum_c |prototype_c|^2. With too few clusters the lists end in the
    cluster itself at similarity 0, which gives the neighbour term no weight.

    Args:
        prototypes: (C, D) prototypes, or a pair (bank (N, D), labels (N,)) to take them from.
        num_neighbors: K, length of the lists.
        compat: Which similarity.
        search: Engine of the blocked search, see `search.py`.

    Returns:
        (C, K) int32 labels and (C, K) float32 similarities.

    Raises:
        UsageError: An unknown `compat` or a negative `num_neighbors`.
        UserError: Labels that do not fit the bank.
    """
    if compat not in ("paper", "released"):
        raise UsageError(f"compat: {compat!r} is neither 'paper' nor 'released'")
    if num_neighbors < 0:
        raise UsageError(f"num_neighbors = {num_neighbors}: has to be 0 or more")
    if isinstance(prototypes, tuple):
        prototypes = cluster_prototypes(*prototypes)
    prototypes = np.ascontiguousarray(prototypes, dtype=np.float32)
    count = len(prototypes)
    own = np.arange(count, dtype=np.int32)[:, None]
    labels = np.repeat(own, num_neighbors, axis=1)
    similarities = np.zeros((count, num_neighbors), np.float32)
    found = min(num_neighbors, count - 1)
    if found < 1:
        return labels, similarities

    norms = np.linalg.norm(prototypes, axis=1, keepdims=True)
    if compat == "paper":
        prototypes = prototypes / np.where(norms > 0, norms, 1)
    indices, products = top_products(prototypes, found + 1, search=search)
    # Taking the cluster itself out, or the last where it is not in the list, leaves `found`.
    others = indices != own
    others[others.all(axis=1), -1] = False
    labels[:, :found] = indices[others].reshape(count, found)
    similarities[:, :found] = products[others].reshape(count, found)
    if compat == "released":
        similarities /= np.sum(norms.astype(np.float64) ** 2).astype(np.float32)
    return labels, similarities
