"""What a step remembers of other steps: a row per training image, or one per cluster.

Instance memory (SiCL: `algorithm.md` section 3; arXiv 2305.13600, section 3.2) is a `Bank` of one
row per image and the mean row of every cluster; cluster memory (Cluster Contrast:
`docs/methods/cluster_contrast.md` section 5; arXiv 2103.11568) is an array of one row per cluster.
Both are arrays, and every operation on them is a pure function, so they live inside the jitted
training step.

What a step costs: an update reads and writes the rows of its batch and of their clusters, however
many images there are. But a loss compares the batch with all clusters, two products of B x C x D
forward and backward for each memory, and C is the *padded* number of clusters
(`padded_clusters`): it grows with the number of images as the clusters do, and with the padding.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from sicl_jax.models.layers import l2_normalize

# Whole tiles of a GPU's matrix products, which otherwise begin by padding all prototypes.
_TILE = 128
_SIZES = 8


def padded_clusters(num_clusters: int, num_images: int, *, step: float = 1.4) -> int:
    """The size to which the arrays of an epoch's clusters are padded.

    Every size compiles a program of its own, and what is padded is computed for nothing, so there
    are eight sizes: they fall from the number of images in geometric steps, rounded up to tiles of
    128. With steps of 1.4 the smallest is an eleventh of the images, and products with all clusters
    take 1.2 times what they need in the mean as long as there are more clusters than that
    (`benchmarks/cluster_padding.py`).

    Args:
        num_clusters: Clusters of this epoch, no more than there are images.
        num_images: Training images.
        step: The factor between two sizes, above 1.
    """

    def tiles(size: float) -> int:
        return math.ceil(size / _TILE) * _TILE

    sizes = (tiles(num_images / step**number) for number in range(_SIZES))
    return min(size for size in sizes if size >= num_clusters)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Clusters:
    """The pseudo-labels of an epoch, padded to fixed sizes.

    Attributes:
        labels: (N,) int32, the cluster of each image; N and beyond the real images: C (no cluster).
        counts: (C,) float32, members of each cluster; 0 for padding.
        neighbor_labels: (C, K) int32, the clusters most similar to each cluster.
        neighbor_similarity: (C, K) float32, their similarities.
        num_neighbors: () int32, how many of the K columns count this epoch (curriculum).
    """

    labels: jax.Array
    counts: jax.Array
    neighbor_labels: jax.Array
    neighbor_similarity: jax.Array
    num_neighbors: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bank:
    """A memory bank.

    Attributes:
        rows: (N, D) float32, unit rows, one per training image.
        prototypes: (C, D) float32, the mean of each cluster's rows; zeros for padding.
    """

    rows: jax.Array
    prototypes: jax.Array


def prototypes_of(rows: jax.Array, labels: jax.Array, counts: jax.Array) -> jax.Array:
    """Mean row of each cluster.

    Args:
        rows: (N, D) float32.
        labels: (N,) int32; a label of C or more belongs to no cluster.
        counts: (C,) float32, members per cluster.

    Returns:
        (C, D) float32.
    """
    sums = jax.ops.segment_sum(rows, labels, num_segments=counts.shape[0])
    return sums / jnp.maximum(counts, 1.0)[:, None]


def regroup(rows: jax.Array, clusters: Clusters) -> Bank:
    """A bank with the prototypes of these clusters."""
    return Bank(rows, prototypes_of(rows, clusters.labels, clusters.counts))


def update(
    bank: Bank, clusters: Clusters, indexes: jax.Array, features: jax.Array, momentum: float
) -> Bank:
    """Moves the rows of a batch towards its features, one sample after the other.

    M[n_b] <- normalise(momentum M[n_b] + (1 - momentum) x_b) for b in order, so an index that
    occurs twice is updated twice. The prototypes follow by the change of their members over
    their number.

    Args:
        bank: The bank before the step.
        clusters: The clusters its prototypes belong to.
        indexes: (B,) int32, the image of each sample.
        features: (B, D) float32, unit rows.
        momentum: mu, the weight of the old row.

    Returns:
        The bank after the step.
    """
    old = bank.rows[indexes]
    moved = _moved(old, indexes, features, momentum)
    labels = clusters.labels[indexes]
    first = _first_of_equals(indexes) == jnp.arange(indexes.shape[0])
    counts = jnp.maximum(clusters.counts[labels], 1.0).astype(moved.dtype)
    share = jnp.where(first, 1.0 / counts, 0.0)
    change = (moved - old) * share[:, None]
    return Bank(
        rows=bank.rows.at[indexes].set(moved),
        prototypes=bank.prototypes.at[labels].add(change, mode="drop"),
    )


def start_cluster_memory(features: jax.Array, labels: jax.Array, counts: jax.Array) -> jax.Array:
    """Cluster memory before an epoch: the unit mean of each cluster's features.

    Args:
        features: (N, D) unit rows.
        labels: (N,) int32; a label of C or more belongs to no cluster.
        counts: (C,) members per cluster; 0 for padding, whose rows are zeros.

    Returns:
        (C, D) of the features' type.
    """
    return l2_normalize(prototypes_of(features, labels, counts))


def update_cluster_memory(
    rows: jax.Array, labels: jax.Array, features: jax.Array, momentum: float, *, hard: bool = False
) -> jax.Array:
    """Moves the rows of a batch's clusters towards its features.

    phi_y <- normalise(momentum phi_y + (1 - momentum) x_b), for every b in order; or, `hard`, once
    for every cluster, x_b its least similar sample (the first of equals).

    Args:
        rows: (C, D), a unit row per cluster.
        labels: (B,) int32, the cluster of each sample.
        features: (B, D) unit rows.
        momentum: m, the weight of the old row.
        hard: Whether only the hardest sample of each cluster counts.

    Returns:
        (C, D), the memory after the step.
    """
    old = rows[labels]
    if hard:
        similarity = jnp.sum(old * features, axis=1)
        same = labels[:, None] == labels[None, :]
        hardest = jnp.argmin(jnp.where(same, similarity[None, :], jnp.inf), axis=1)
        moved = _move(old, features[hardest], momentum)
    else:
        moved = _moved(old, labels, features, momentum)
    return rows.at[labels].set(moved)


def _moved(old: jax.Array, indexes: jax.Array, features: jax.Array, momentum: float) -> jax.Array:
    """Rows after a batch has moved them, one sample after the other.

    Args:
        old: (B, D), the row of each sample before.
        indexes: (B,) int32, which row that is; samples of one index move the same row in turn.
        features: (B, D) unit rows.
        momentum: The weight of the old row.

    Returns:
        (B, D), the row of each sample after the whole batch.
    """
    first = _first_of_equals(indexes)  # The sample that holds the row while it changes.
    turn = jnp.sum(jnp.tril(indexes[:, None] == indexes[None, :], k=-1), axis=1)

    def apply_turn(carry):
        number, held = carry
        moved = _move(held[first], features, momentum)
        target = jnp.where(turn == number, first, indexes.shape[0])
        return number + 1, held.at[target].set(moved, mode="drop")

    turns = jnp.max(turn) + 1
    _, held = jax.lax.while_loop(lambda carry: carry[0] < turns, apply_turn, (0, old))
    return held[first]


def _move(rows: jax.Array, features: jax.Array, momentum: float) -> jax.Array:
    return l2_normalize(momentum * rows + (1.0 - momentum) * features)


def _first_of_equals(indexes: jax.Array) -> jax.Array:
    """(B,): the position of the first sample that has the index of each."""
    return jnp.argmax(indexes[:, None] == indexes[None, :], axis=1)
