"""Memory and losses against the published code's numbers and against brute force."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sicl_jax import memory
from sicl_jax.losses import cluster_contrast
from sicl_jax.methods.sicl import losses


@pytest.fixture(scope="module")
def case(golden):
    case = golden("memory")
    labels = case["labels"]
    num_clusters = labels.max() + 1
    padded = num_clusters + 5
    neighbors = int(case["num_neighbors"])
    table = np.zeros((padded, neighbors), np.int32)
    similarity = np.zeros((padded, neighbors), np.float32)
    table[labels] = case["neighbor_labels"][:, 1 : neighbors + 1]
    similarity[labels] = case["neighbor_similarity"][:, 1 : neighbors + 1]
    clusters = memory.Clusters(
        labels=jnp.asarray(labels, jnp.int32),
        counts=jnp.asarray(np.bincount(labels, minlength=padded), jnp.float32),
        neighbor_labels=jnp.asarray(table),
        neighbor_similarity=jnp.asarray(similarity),
        num_neighbors=jnp.asarray(neighbors, jnp.int32),
    )
    bank = memory.regroup(jnp.asarray(case["bank"]), clusters)
    return case, clusters, bank


def _neighbor_inputs(case):
    """The sample-wise golden neighbours and draws, (B, K)."""
    indexes, count = case["indexes"], int(case["num_neighbors"])
    neighbors = losses.Neighbors(
        jnp.asarray(case["neighbor_labels"][indexes, 1 : count + 1], jnp.int32),
        jnp.asarray(case["neighbor_similarity"][indexes, 1 : count + 1]),
        jnp.asarray(count),
    )
    return neighbors, jnp.asarray(case["bernoulli_draws"].T)


def _total(inputs, other, case, clusters, bank, parts):
    labels = jnp.asarray(case["labels"][case["indexes"]], jnp.int32)
    probabilities = losses.cluster_probabilities(
        inputs, bank.prototypes, clusters.counts, float(case["temperature"])
    )
    total = losses.prototype_loss(probabilities, labels)
    if "neighbor" in parts:
        total += losses.neighbor_loss(probabilities, *_neighbor_inputs(case), compat="released")
    if "cross" in parts:
        total += losses.negative_cosine(bank.prototypes[labels], other)
        total += losses.negative_cosine(inputs, other)
    return total


@pytest.mark.parametrize(
    ("mode", "parts"), [(0, ()), (2, ("neighbor",)), (1, ("neighbor", "cross"))]
)
def test_losses_and_gradients_match_the_published_code(case, mode, parts):
    case, clusters, bank = case
    value, (grad_inputs, grad_other) = jax.value_and_grad(_total, argnums=(0, 1))(
        jnp.asarray(case["inputs"]), jnp.asarray(case["other_stream"]), case, clusters, bank, parts
    )
    np.testing.assert_allclose(value, case[f"loss_mode{mode}"], rtol=1e-4)
    np.testing.assert_allclose(grad_inputs, case[f"grad_inputs_mode{mode}"], rtol=1e-4, atol=1e-6)
    if "cross" in parts:
        np.testing.assert_allclose(grad_other, case["grad_other_mode1"], rtol=1e-4, atol=1e-6)


def test_each_loss_term_matches_the_published_code(case):
    case, clusters, bank = case
    labels = jnp.asarray(case["labels"][case["indexes"]], jnp.int32)
    probabilities = losses.cluster_probabilities(
        jnp.asarray(case["inputs"]), bank.prototypes, clusters.counts, float(case["temperature"])
    )
    neighbor = losses.neighbor_loss(probabilities, *_neighbor_inputs(case), compat="released")
    other = jnp.asarray(case["other_stream"])
    np.testing.assert_allclose(neighbor, case["neighbor_loss"], rtol=1e-4)
    np.testing.assert_allclose(
        losses.negative_cosine(bank.prototypes[labels], other),
        case["cross_prototype_loss"],
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        losses.negative_cosine(jnp.asarray(case["inputs"]), other),
        case["cross_instance_loss"],
        rtol=1e-4,
    )


def test_bank_update_matches_the_published_code(case):
    case, clusters, bank = case
    updated = memory.update(
        bank,
        clusters,
        jnp.asarray(case["indexes"], jnp.int32),
        jnp.asarray(case["inputs"]),
        float(case["momentum"]),
    )
    np.testing.assert_allclose(updated.rows, case["features_after"], rtol=1e-4, atol=1e-6)


def test_the_paper_weights_each_sample_by_its_own_draw():
    """The paper's form against its formula, sample by sample; the released one differs from it."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(9), size=6).astype(np.float32)
    labels = rng.integers(0, 9, (6, 4)).astype(np.int32)
    similarity = rng.uniform(-0.5, 1.5, (6, 4)).astype(np.float32)
    draws = rng.integers(0, 2, (6, 4)).astype(np.float32)
    expected = 0.0
    for k in range(3):
        terms = [
            np.clip(similarity[b, k], 0, 1)
            * draws[b, k]
            * -np.log(probabilities[b, labels[b, k]] + 1e-6)
            for b in range(6)
        ]
        expected += np.mean(terms) / (3 + 1)
    neighbors = losses.Neighbors(labels, similarity, 3)
    got = losses.neighbor_loss(probabilities, neighbors, draws, compat="paper")
    released = losses.neighbor_loss(probabilities, neighbors, draws, compat="released")
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert abs(released - got) > 1e-3


def test_no_neighbors_no_loss():
    probabilities = jnp.full((3, 4), 0.25)
    labels = jnp.zeros((3, 2), jnp.int32)
    ones = jnp.ones((3, 2))
    neighbors = losses.Neighbors(labels, ones, 0)
    assert losses.neighbor_loss(probabilities, neighbors, ones, compat="paper") == 0


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
    indexes=st.lists(st.integers(0, 5), min_size=8, max_size=8), seed=st.integers(0, 1000)
)
def test_updates_are_sequential_and_prototypes_follow(indexes, seed):
    """Against a plain loop, with any number of repeats; prototypes equal recomputed ones."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(6, 3)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    features = rng.normal(size=(8, 3)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels = np.array([0, 0, 1, 1, 1, 2], np.int32)
    clusters = memory.Clusters(
        jnp.asarray(labels), jnp.asarray([2.0, 3.0, 1.0, 0.0]), None, None, None
    )
    bank = memory.regroup(jnp.asarray(rows), clusters)
    updated = jax.jit(memory.update, static_argnums=4)(
        bank, clusters, jnp.asarray(indexes, jnp.int32), jnp.asarray(features), 0.2
    )
    for index, feature in zip(indexes, features, strict=True):
        moved = 0.2 * rows[index] + 0.8 * feature
        rows[index] = moved / np.linalg.norm(moved)
    np.testing.assert_allclose(updated.rows, rows, atol=2e-6)
    np.testing.assert_allclose(
        updated.prototypes,
        memory.prototypes_of(jnp.asarray(rows), clusters.labels, clusters.counts),
        atol=2e-6,
    )


def test_prototypes_stay_true_over_an_epoch():
    """After 400 updates prototypes equal recomputed ones within rounding."""
    num, size, clusters_count = 200, 16, 12
    rng = np.random.default_rng(3)
    labels = rng.integers(0, clusters_count, num).astype(np.int32)
    clusters = memory.Clusters(
        jnp.asarray(labels),
        jnp.asarray(np.bincount(labels, minlength=16), jnp.float32),
        None,
        None,
        None,
    )

    def unit(shape):
        x = rng.normal(size=shape).astype(np.float32)
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    bank = memory.regroup(jnp.asarray(unit((num, size))), clusters)
    step = jax.jit(memory.update, static_argnums=4)
    for _ in range(400):
        indexes = jnp.asarray(rng.integers(0, num, 32), jnp.int32)
        bank = step(bank, clusters, indexes, jnp.asarray(unit((32, size))), 0.2)
    expected = memory.prototypes_of(bank.rows, clusters.labels, clusters.counts)
    np.testing.assert_allclose(bank.prototypes, expected, atol=5e-6)


@pytest.mark.parametrize("num_images", [1, 127, 128, 129, 1400, 6000, 17_896])
def test_padding_is_the_least_of_a_few_geometric_sizes(num_images):
    sizes = {int(np.ceil(num_images / 1.4**k / 128)) * 128 for k in range(8)}
    found = {memory.padded_clusters(c, num_images) for c in range(1, num_images + 1)}
    assert found == sizes
    for count in range(1, num_images + 1):
        assert memory.padded_clusters(count, num_images) == min(s for s in sizes if s >= count)


def _unit(rng, *shape):
    x = rng.normal(size=shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
    labels=st.lists(st.integers(0, 5), min_size=8, max_size=8),
    seed=st.integers(0, 1000),
    hard=st.booleans(),
)
def test_cluster_memory_moves_as_a_plain_loop_does(labels, seed, hard):
    rng = np.random.default_rng(seed)
    before, features = _unit(rng, 6, 3), _unit(rng, 8, 3)
    features[3] = features[2]
    update = jax.jit(memory.update_cluster_memory, static_argnames=("momentum", "hard"))
    found = update(before, np.asarray(labels, np.int32), features, momentum=0.1, hard=hard)
    rows, order = before.copy(), range(8)
    if hard:
        order = [
            min((b for b in range(8) if labels[b] == y), key=lambda b: before[y] @ features[b])
            for y in set(labels)
        ]
    for b in order:
        moved = 0.1 * rows[labels[b]] + 0.9 * features[b]
        rows[labels[b]] = moved / np.linalg.norm(moved)
    np.testing.assert_allclose(found, rows, atol=2e-6)


def test_padding_takes_no_part_in_cluster_contrast():
    rng = np.random.default_rng(0)
    features, rows = _unit(rng, 6, 4), _unit(rng, 5, 4)
    labels = jnp.asarray([0, 1, 2, 4, 4, 3])
    counts = jnp.asarray([3, 2, 4, 9, 1, 0, 0, 0])
    padded = np.concatenate([rows, np.ones((3, 4), np.float32)])

    def value_and_gradient(memory_rows, counts):
        return jax.value_and_grad(cluster_contrast)(features, memory_rows, counts, labels, 0.05)

    expected = value_and_gradient(rows, counts[:5])
    for found, wanted in zip(value_and_gradient(padded, counts), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    padded_memory = memory.start_cluster_memory(features, labels.at[0].set(8), counts)
    np.testing.assert_array_equal(padded_memory[5:], 0)
    np.testing.assert_allclose(padded_memory[1], features[1], atol=1e-6)
