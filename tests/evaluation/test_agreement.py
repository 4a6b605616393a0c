"""Figures of pseudo-labels against identities, by counting."""

import collections

import numpy as np

from sicl_jax.evaluation.agreement import neighbor_agreement


def test_neighbors_are_right_where_both_clusters_are_mostly_of_one_person():
    rng = np.random.default_rng(0)
    labels = np.r_[np.arange(12), rng.integers(0, 12, 60)]
    identities = rng.integers(0, 4, len(labels))
    neighbors = np.stack([rng.permutation(np.delete(np.arange(12), c))[:3] for c in range(12)])
    person = []
    for cluster in range(12):
        counts = collections.Counter(identities[labels == cluster].tolist())
        most = max(counts.values())
        person.append(min(who for who, count in counts.items() if count == most))
    right = [person[n] == person[c] for c in range(12) for n in neighbors[c]]
    others = [min(3, person.count(person[c]) - 1) for c in range(12)]
    assert neighbor_agreement(labels, identities, neighbors) == {
        "neighbors_right": np.mean(right),
        "neighbors_possible": np.mean(others) / 3,
    }


def test_nothing_is_said_of_unknown_people_or_without_neighbors():
    labels = np.arange(3)
    neighbors = np.array([[1], [2], [0]])
    assert neighbor_agreement(labels, np.array([0, 1, -1]), neighbors) == {}
    assert neighbor_agreement(labels, labels, neighbors[:, :0]) == {}
