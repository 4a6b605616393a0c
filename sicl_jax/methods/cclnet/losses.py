"""CCLNet's own losses, and the exchange between its two memories (`docs/methods/cclnet.md`).

B is the batch, C the clusters, E the size of projections and text features.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from sicl_jax import devices
from sicl_jax.models.layers import l2_normalize

_SMOOTHING = 0.1
_COPIED_AT_ONCE = 65_536  # Bytes; XLA's limit is 100,000.


def contrast(anchors: jax.Array, others: jax.Array, labels: jax.Array) -> jax.Array:
    """S(a, b) of section 6: each anchor against all others, those of its label its positives.

    -mean_j mean over {k: y_k = y_j} of log softmax_k(a_j . b_k). A label of -1 fills the batch and
    takes no part.

    Args:
        anchors: (B, E), as they are.
        others: (B, E), row k of the same label as anchor k.
        labels: (B,) int.

    Returns:
        () of the features' type.
    """
    is_real = labels >= 0
    logits = jnp.where(is_real[None, :], jnp.matmul(anchors, others.T), -jnp.inf)
    positive = (labels[:, None] == labels[None, :]) & is_real[:, None]
    log_probabilities = jnp.where(positive, jax.nn.log_softmax(logits), 0.0)
    own = jnp.sum(log_probabilities, axis=1) / jnp.maximum(jnp.sum(positive, axis=1), 1)
    return -jnp.sum(own) / jnp.maximum(jnp.sum(is_real), 1)


def text_loss(projections: jax.Array, texts: jax.Array, labels: jax.Array) -> jax.Array:
    """T of section 4: cross-entropy of z . t_c over the texts of a modality, smoothed by 0.1.

    Args:
        projections: (B, E), z.
        texts: (C, E), of the prompts.
        labels: (B,) int, stage 0's clusters; samples labelled -1 are dropped.

    Returns:
        () of the projections' type; 0 if no sample is left.
    """
    log_probabilities = jax.nn.log_softmax(jnp.matmul(projections, texts.T))
    own = jnp.take_along_axis(log_probabilities, jnp.maximum(labels, 0)[:, None], axis=1)[:, 0]
    costs = -(1 - _SMOOTHING) * own - _SMOOTHING * jnp.mean(log_probabilities, axis=1)
    kept = labels >= 0
    return jnp.sum(jnp.where(kept, costs, 0.0)) / jnp.maximum(jnp.sum(kept), 1)


def match(similarity: np.ndarray) -> np.ndarray:
    """The one-to-one matching of clusters with the greatest sum of similarities; on the host.

    Args:
        similarity: (C, C'), of visible and infrared clusters.

    Returns:
        (C,) int32, the infrared cluster of each visible one; -1 where C > C' leaves it alone, or
        where the two are opposed (a similarity below 0).
    """
    rows, columns = linear_sum_assignment(similarity, maximize=True)
    partners = np.full(len(similarity), -1, np.int32)
    partners[rows] = np.where(similarity[rows, columns] >= 0, columns, -1)
    return partners


def matched(
    visible: jax.Array, infrared: jax.Array, counts: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """`match` of two padded memories, within a compiled step.

    The host is sent the similarities, not the memories, and the sizes of what is no padding; it
    sends back a number for each cluster. Nothing of the gradient waits for it.

    Args:
        visible: R, (C, D) unit rows, padding last.
        infrared: I, (C', D) unit rows, padding last.
        counts: Images of each cluster, (C,) and (C',); 0 for padding.

    Returns:
        (C,) int32, as `match` gives it; -1 for padding.
    """
    sizes = jnp.stack([jnp.sum(c > 0) for c in counts])
    similarity = jnp.matmul(visible, infrared.T, precision=jax.lax.Precision.HIGHEST)
    shape = jax.ShapeDtypeStruct((len(visible),), jnp.int32)
    return jax.pure_callback(_match_padded, shape, sizes, *_parts(similarity))


def _parts(similarity: jax.Array) -> list[jax.Array]:
    """The rows as they are sent to the host: at once, but from several CPU devices in small parts.

    Large arguments of a callback are copied by a thread of the devices' own, and all of these wait
    for the callback's result where CPUs are several devices.
    """
    if not devices.on_cpu() or devices.mesh().size == 1:
        return [similarity]
    size = max(1, _COPIED_AT_ONCE // (similarity.shape[1] * similarity.dtype.itemsize))
    return [similarity[start : start + size] for start in range(0, len(similarity), size)]


def _match_padded(sizes, *parts) -> np.ndarray:
    rows, columns = np.asarray(sizes).tolist()
    similarity = np.concatenate([np.asarray(part) for part in parts])
    found = match(similarity[:rows, :columns])
    return np.pad(found, (0, len(similarity) - rows), constant_values=-1)


def exchange(
    visible: jax.Array,
    infrared: jax.Array,
    partners: jax.Array,
    labels: tuple[jax.Array, jax.Array],
    scale: float,
    *,
    compat: str,
) -> tuple[jax.Array, jax.Array]:
    """Moves matched rows of the two memories towards each other (section 4).

    R_r <- normalise(s R_r + (1 - s) I_i) where r is a visible cluster of the batch; then
    I_i <- normalise(s I_i + (1 - s) R_r) where i is an infrared one. `released` sees R_r already
    changed in the second line, `paper` as it was.

    Args:
        visible: R, (C, D) unit rows.
        infrared: I, (C', D) unit rows.
        partners: (C,) int32, what `match` gave.
        labels: The batch's visible and infrared clusters.
        scale: s, the weight of the old row.
        compat: `'paper'` or `'released'`.

    Returns:
        Both memories after the exchange.
    """
    in_batch = [
        jnp.zeros(len(rows), bool).at[of].set(True)
        for rows, of in zip((visible, infrared), labels, strict=True)
    ]
    is_matched = partners >= 0
    partner_rows = infrared[jnp.maximum(partners, 0)]

    def moved(rows, towards):
        return l2_normalize(scale * rows + (1 - scale) * towards)

    changes = (is_matched & in_batch[0])[:, None]
    after = jnp.where(changes, moved(visible, partner_rows), visible)
    seen = after if compat == "released" else visible
    changes = is_matched & in_batch[1][jnp.maximum(partners, 0)]
    target = jnp.where(changes, partners, len(infrared))
    return after, jnp.asarray(infrared).at[target].set(moved(partner_rows, seen), mode="drop")
