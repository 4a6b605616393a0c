"""Memory stays that of a block: no array of all queries by all of the gallery is ever made."""

import tracemalloc

import numpy as np

from sicl_jax.evaluation import FeatureSet, rules
from sicl_jax.evaluation.ranking import rank
from sicl_jax.evaluation.reranking import reranked_rows

QUERIES, GALLERY = 600, 2400
BLOCK = 2**17


def images(count, seed):
    rng = np.random.default_rng(seed)
    highest = {"identity": 200, "camera": 5, "clothes": 5}
    labels = {name: rng.integers(high, size=count) for name, high in highest.items()}
    return FeatureSet(rng.normal(size=(count, 4)), labels)


def peak_bytes(work):
    work()  # What is compiled and imported at first use is not the work's.
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_ranking():
    query, gallery = images(QUERIES, 0), images(GALLERY, 1)
    every_rule = {"a": rules.STANDARD, "b": rules.CLOTH_CHANGING}
    peak = peak_bytes(lambda: rank(query, gallery, every_rule, block_bytes=BLOCK))
    assert peak < QUERIES * GALLERY * 4 / 4
    assert peak < 8 * BLOCK


def test_reranking():
    query, gallery = images(QUERIES, 0).features, images(GALLERY, 1).features
    peak = peak_bytes(lambda: reranked_rows(query, gallery, block_bytes=BLOCK)(0, 20))
    assert peak < (QUERIES + GALLERY) ** 2 * 4 / 4
