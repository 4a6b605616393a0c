"""Memory banks: one row per training image, and the mean row of every cluster.

`algorithm.md` section 3; arXiv 2305.13600, section 3.2. A bank is a pytree and every operation is
a pure function, so a bank lives inside the jitted training step. A step touches the rows of its
batch and their clusters' prototypes only: its cost does not depend on the number of images.
"""

import dataclasses

import jax
import jax.numpy as jnp

from sicl_jax.models.layers import l2_normalize


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
    same = indexes[:, None] == indexes[None, :]
    earlier = jnp.tril(same, k=-1)
    occurrence = jnp.sum(earlier, axis=1)
    first = jnp.argmax(same, axis=1)  # The sample that holds the row while it changes.
    old = bank.rows[indexes]

    def apply_round(carry):
        round_, held = carry
        moved = l2_normalize(momentum * held[first] + (1.0 - momentum) * features)
        target = jnp.where(occurrence == round_, first, indexes.shape[0])
        return round_ + 1, held.at[target].set(moved, mode="drop")

    rounds = jnp.max(occurrence) + 1
    _, held = jax.lax.while_loop(lambda carry: carry[0] < rounds, apply_round, (0, old))

    labels = clusters.labels[indexes]
    share = jnp.where(occurrence == 0, 1.0 / jnp.maximum(clusters.counts[labels], 1.0), 0.0)
    change = (held - old) * share[:, None]
    return Bank(
        rows=bank.rows.at[indexes].set(held[first]),
        prototypes=bank.prototypes.at[labels].add(change, mode="drop"),
    )
