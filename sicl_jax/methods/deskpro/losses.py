"""DeskPro's loss terms (docs/methods/deskpro.md, section 4; arXiv 2208.12023, section 2).

B is the batch, C the classes, D the feature size.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from sicl_jax.losses import cross_entropy, distillation
from sicl_jax.models.layers import l2_normalize

SMOOTHING = 0.1
MARGIN = 0.7
NOTHING_KEPT = 0.1

Metric = Callable[[jax.Array, jax.Array], jax.Array]
"""A metric loss of features (B, D) and labels (B,)."""


def identification(
    logits: jax.Array,
    features: jax.Array,
    labels: jax.Array,
    *,
    weights: Sequence[float],
    metric: Metric,
    factors: tuple[float, float] = (1.0, 1.0),
    smoothing: float = SMOOTHING,
) -> jax.Array:
    """The heads' cross-entropies and the metric loss of features, summed over heads.

    Args:
        logits: (K, B, C), of K heads.
        features: (J, B, D), not normalised.
        labels: (B,) int.
        weights: K factors, one for each head's cross-entropy.
        metric: Loss of one head's features.
        factors: Of the sum of cross-entropies and of the sum of metric losses.
        smoothing: Of the cross-entropy's targets.

    Returns:
        ().
    """
    entropies = jax.vmap(lambda head: cross_entropy(head, labels, smoothing))(logits)
    metrics = jax.vmap(lambda head: metric(head, labels))(features)
    weights = jnp.asarray(weights, entropies.dtype)
    return factors[0] * jnp.sum(weights * entropies) + factors[1] * jnp.sum(metrics)


def taught(teacher: jax.Array, student: jax.Array, temperature: float) -> jax.Array:
    """KD: the student's heads imitate the teacher's; logits (7, B, C) each, summed over heads."""
    return jnp.sum(jax.vmap(lambda t, s: distillation(t, s, temperature))(teacher, student))


def attention_target(masks: jax.Array, height: int, width: int) -> jax.Array:
    """What the attention should be: masks (B, H, W) at its size, zeros made 0.1.

    Bilinear as in OpenCV: half-pixel centres, clamped edges, no antialiasing. Values between 0 and
    0.1 stay.

    Returns:
        (B, height, width).
    """
    shape = (masks.shape[0], height, width)
    resized = jax.image.resize(masks, shape, "linear", antialias=False)
    return jnp.where(resized == 0, NOTHING_KEPT, resized)


def attention_loss(attention: jax.Array, masks: jax.Array) -> jax.Array:
    """ATT: mean squared difference of the attention (B, h, w) from the masks (B, H, W)."""
    target = attention_target(masks, *attention.shape[1:])
    return jnp.mean(jnp.square(attention - target))


def multi_similarity(
    features: jax.Array, labels: jax.Array, *, margin: float = MARGIN, compat: str
) -> jax.Array:
    """Multi-similarity loss (Wang et al. 2019) with mined pairs.

    Args:
        features: (B, D), of any length.
        labels: (B,) int.
        margin: How far a negative may lie below the hardest positive, and a positive above the
            hardest negative, to be kept.
        compat: Pair (i, j) is judged by the extremes of row i (`'intended'`) or, as the published
            code does, of row j (`'released'`).

    Returns:
        ().
    """
    features = l2_normalize(features)
    similarity = jnp.matmul(features, features.T)
    same = labels[:, None] == labels[None, :]
    positive = same & (similarity < 1 - 1e-5)
    negative = ~same

    def of_row(extremes):
        return extremes[:, None] if compat == "intended" else extremes[None, :]

    least = jnp.min(jnp.where(positive, similarity, jnp.inf), axis=1)
    negative &= similarity + margin > of_row(least)
    most = jnp.max(jnp.where(negative, similarity, -jnp.inf), axis=1)
    positive &= similarity - margin < of_row(most)

    def term(pairs, scale):
        exponents = jnp.where(pairs, scale * (similarity - 0.5), 0.0)
        total = jnp.sum(jnp.where(pairs, jnp.exp(exponents), 0.0), axis=1)
        return jnp.log1p(total) / abs(scale)

    return jnp.mean(term(positive, -2.0) + term(negative, 40.0))
