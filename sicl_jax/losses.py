"""Losses that several methods share.

B is the batch, C the classes or clusters, D the feature size.
"""

import jax
import jax.numpy as jnp

_SMALLEST_SQUARE = 1e-12


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Mean cross-entropy with label smoothing.

    Targets are (1 - smoothing) onehot + smoothing / C, C counting all classes.

    Args:
        logits: (B, C).
        labels: (B,) int, each sample's class.
        smoothing: Share of the target that is spread over all classes.

    Returns:
        () of the logits' type.
    """
    log_probabilities = jax.nn.log_softmax(logits)
    own = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
    if not smoothing:
        return -jnp.mean(own)
    return -jnp.mean((1 - smoothing) * own + smoothing * jnp.mean(log_probabilities, axis=1))


def cluster_contrast(
    features: jax.Array,
    memory: jax.Array,
    counts: jax.Array,
    labels: jax.Array,
    temperature: float,
) -> jax.Array:
    """Mean cross-entropy of the similarities to all clusters (Dai et al. 2022, arXiv 2103.11568).

    s_bc = x_b . phi_c / temperature. Clusters without members are padding and take no part.

    Args:
        features: (B, D) unit rows.
        memory: (C, D) unit rows, as before the step's update; no gradient reaches them.
        counts: (C,), members per cluster.
        labels: (B,) int, each sample's cluster.
        temperature: By which similarities are divided.

    Returns:
        () of the features' type.
    """
    logits = jnp.matmul(features, jax.lax.stop_gradient(memory).T) / temperature
    return cross_entropy(jnp.where(counts > 0, logits, -jnp.inf), labels)


def pairwise_distances(features: jax.Array) -> jax.Array:
    """Euclidean distances between all rows, by one matrix product.

    d_ij = sqrt(max(|f_i|^2 + |f_j|^2 - 2 f_i.f_j, 1e-12)); no gradient where 1e-12 is the larger.

    Args:
        features: (B, D).

    Returns:
        (B, B).
    """
    squares = jnp.sum(jnp.square(features), axis=1)
    squared = squares[:, None] + squares[None, :] - 2 * jnp.matmul(features, features.T)
    return jnp.sqrt(jnp.where(squared > _SMALLEST_SQUARE, squared, _SMALLEST_SQUARE))


def hard_triplet(features: jax.Array, labels: jax.Array, margin: float) -> jax.Array:
    """Batch-hard triplet loss (Hermans et al. 2017): mean_i max(0, d_pos - d_neg + margin).

    d_pos is the distance to the farthest sample of the same class, the sample itself among them,
    and d_neg that to the nearest of another class. Gradients reach both ends of a pair; equally far
    pairs share them.

    Args:
        features: (B, D), as they are: not normalised here.
        labels: (B,) int, of two classes at least.
        margin: By how much a negative has to be farther away.

    Returns:
        () of the features' type.
    """
    distances = pairwise_distances(features)
    same = labels[:, None] == labels[None, :]
    positive = _largest(distances, same)
    negative = -_largest(-distances, ~same)
    return jnp.mean(jax.nn.relu(positive - negative + margin))


def _largest(x: jax.Array, among: jax.Array) -> jax.Array:
    """The largest of each row of (B, B) `among` some, (B,); equal ones share its gradient.

    The gradient of `jnp.max` looks for what equals the maximum: where XLA computes the row once
    more for it and rounds otherwise, nothing does, and the gradient is 0 / 0. Here one always does.
    """
    masked = jnp.where(among, jax.lax.stop_gradient(x), -jnp.inf)
    first = jnp.argmax(masked, axis=1)[:, None] == jnp.arange(x.shape[1])
    chosen = first | (masked == jnp.max(masked, axis=1, keepdims=True))
    return jnp.sum(jnp.where(chosen, x, 0), axis=1) / jnp.sum(chosen, axis=1)


def distillation(teacher: jax.Array, student: jax.Array, temperature: float) -> jax.Array:
    """T^2 mean_b KL(softmax(teacher / T) || softmax(student / T)) (Hinton et al. 2015).

    Args:
        teacher: (B, C) logits; no gradient reaches them.
        student: (B, C) logits.
        temperature: T.

    Returns:
        () of the student's type.
    """
    teacher = jax.nn.log_softmax(jax.lax.stop_gradient(teacher) / temperature)
    student = jax.nn.log_softmax(student / temperature)
    divergence = jnp.sum(jnp.exp(teacher) * (teacher - student), axis=1)
    return temperature**2 * jnp.mean(divergence)
