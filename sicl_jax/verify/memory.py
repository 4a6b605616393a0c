"""`memory.npz`: the loss terms, their gradients and the bank's update (algorithm.md 3 and 6)."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from sicl_jax import memory
from sicl_jax.methods.sicl import losses
from sicl_jax.verify.checks import Check, Golden

_TOLERANCE = 1e-4
# The published code's modes: the fusion bank, the RGB bank and the silhouette bank.
_MODES = {
    0: ("prototype",),
    1: ("prototype", "neighbor", "cross_prototype", "cross_instance"),
    2: ("prototype", "neighbor"),
}


def check(golden: Golden) -> Iterator[Check]:
    """Recomputes the file."""
    clusters = _clusters(golden)
    bank = memory.regroup(jnp.asarray(golden["bank"]), clusters)
    inputs, other = jnp.asarray(golden["inputs"]), jnp.asarray(golden["other_stream"])

    def terms(inputs, other):
        return _terms(golden, clusters, bank, inputs, other)

    for name, value in jax.jit(terms)(inputs, other).items():
        yield golden.check(f"{name}_loss", value, _TOLERANCE)
    for mode, names in _MODES.items():

        def loss(inputs, other, names=names):
            parts = terms(inputs, other)
            return sum(parts[name] for name in names)

        value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(inputs, other)
        yield golden.check(f"loss_mode{mode}", value, _TOLERANCE)
        yield golden.check(f"grad_inputs_mode{mode}", gradients[0], _TOLERANCE)
        if "cross_instance" in names:
            yield golden.check(f"grad_other_mode{mode}", gradients[1], _TOLERANCE)

    indexes = jnp.asarray(golden["indexes"], jnp.int32)
    momentum = float(golden["momentum"])
    after = jax.jit(memory.update, static_argnums=4)(bank, clusters, indexes, inputs, momentum)
    yield golden.check("features_after", after.rows, _TOLERANCE)


def _clusters(golden: Golden) -> memory.Clusters:
    """The labels of the file; neighbours are taken per sample, as the file has them."""
    labels = golden["labels"]
    return memory.Clusters(
        labels=jnp.asarray(labels, jnp.int32),
        counts=jnp.asarray(np.bincount(labels), jnp.float32),
        neighbor_labels=jnp.zeros((labels.max() + 1, 1), jnp.int32),
        neighbor_similarity=jnp.zeros((labels.max() + 1, 1)),
        num_neighbors=jnp.zeros((), jnp.int32),
    )


def _terms(golden, clusters, bank, inputs, other) -> dict[str, jax.Array]:
    indexes, count = golden["indexes"], int(golden["num_neighbors"])
    labels = clusters.labels[indexes]
    probabilities = losses.cluster_probabilities(
        inputs, bank.prototypes, clusters.counts, float(golden["temperature"])
    )
    columns = slice(1, count + 1)  # Column 0 is the sample's own cluster.
    neighbors = losses.Neighbors(
        labels=jnp.asarray(golden["neighbor_labels"][indexes, columns], jnp.int32),
        similarity=jnp.asarray(golden["neighbor_similarity"][indexes, columns]),
        count=jnp.asarray(count, jnp.int32),
    )
    draws = jnp.asarray(golden["bernoulli_draws"].T)
    neighbor = losses.neighbor_loss(probabilities, neighbors, draws, compat="released")
    return {
        "prototype": losses.prototype_loss(probabilities, labels),
        "neighbor": neighbor,
        "cross_prototype": losses.negative_cosine(bank.prototypes[labels], other),
        "cross_instance": losses.negative_cosine(inputs, other),
    }
