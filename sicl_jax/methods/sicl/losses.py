"""SiCL's loss terms, one function each (`algorithm.md` section 6; arXiv 2305.13600, section 3).

Everything here is float32. B is the batch, C the (padded) number of clusters, K the number of
neighbour clusters, D the feature size.
"""

import dataclasses

import jax
import jax.numpy as jnp

from sicl_jax.models.layers import l2_normalize

_EPSILON = 1e-6


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Neighbors:
    """The neighbour clusters of each sample of a batch.

    Attributes:
        labels: (B, K) int32.
        similarity: (B, K) float32, w before clipping to [0, 1].
        count: () int32, columns that count; the K of the formula.
    """

    labels: jax.Array
    similarity: jax.Array
    count: jax.Array


def cluster_probabilities(
    features: jax.Array, prototypes: jax.Array, counts: jax.Array, temperature: float
) -> jax.Array:
    """p_c(x) = exp(s_c) / (1e-6 + sum_c' exp(s_c')), s_c = x . prototype_c / temperature.

    Unit features keep |s| at most 1 / temperature, so for temperatures of 0.0125 and up the
    exponentials fit float32 as they are.

    Args:
        features: (B, D) unit rows.
        prototypes: (C, D), the means of the clusters' rows.
        counts: (C,) members per cluster; clusters without members are padding and get 0.
        temperature: tau.

    Returns:
        (B, C) float32.
    """
    scores = jnp.exp(jnp.matmul(features, prototypes.T) / temperature)
    scores = jnp.where(counts > 0, scores, 0.0)
    return scores / (_EPSILON + jnp.sum(scores, axis=1, keepdims=True))


def prototype_loss(probabilities: jax.Array, labels: jax.Array) -> jax.Array:
    """L_P = mean_b [-(1 - p_y)^4 log(p_y + 1e-6)].

    Args:
        probabilities: (B, C).
        labels: (B,) int32, each sample's cluster.

    Returns:
        () float32.
    """
    own = jnp.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    return jnp.mean(-((1.0 - own) ** 4) * jnp.log(own + _EPSILON))


def neighbor_loss(
    probabilities: jax.Array, neighbors: Neighbors, draws: jax.Array, *, compat: str
) -> jax.Array:
    """L_N, the pull towards neighbouring clusters.

    paper:    1/(K+1) sum_k mean_b [w delta (-log(p_c + 1e-6))]
    released: 1/(K+1) sum_k mean_b [-log(p_c + 1e-6)] mean_b [w delta]

    Args:
        probabilities: (B, C).
        neighbors: Of each sample's cluster.
        draws: (B, K) of 0 and 1, delta ~ Bernoulli(w).
        compat: `'paper'` or `'released'`.

    Returns:
        () float32; 0 when no column counts.
    """
    cost = -jnp.log(jnp.take_along_axis(probabilities, neighbors.labels, axis=1) + _EPSILON)
    weight = jnp.clip(neighbors.similarity, 0.0, 1.0) * draws
    if compat == "paper":
        per_column = jnp.mean(weight * cost, axis=0)
    else:
        per_column = jnp.mean(cost, axis=0) * jnp.mean(weight, axis=0)
    counted = jnp.arange(per_column.shape[0]) < neighbors.count
    return jnp.sum(jnp.where(counted, per_column, 0.0)) / (neighbors.count + 1)


def draw_neighbors(key: jax.Array, neighbor_similarity: jax.Array) -> jax.Array:
    """Delta ~ Bernoulli(w), w the similarity (B, K) clipped to [0, 1]; float32 zeros and ones."""
    weight = jnp.clip(neighbor_similarity, 0.0, 1.0)
    return jax.random.bernoulli(key, weight).astype(jnp.float32)


def negative_cosine(target: jax.Array, projection: jax.Array) -> jax.Array:
    """-mean_b cos(sg(target_b), z_b): one half of the cross-view loss L_X.

    Args:
        target: (B, D), the silhouette bank's prototypes or the silhouette features; no gradient.
        projection: (B, D), the RGB projections z.

    Returns:
        () float32.
    """
    target = l2_normalize(jax.lax.stop_gradient(target))
    return -jnp.mean(jnp.sum(target * l2_normalize(projection), axis=-1))
