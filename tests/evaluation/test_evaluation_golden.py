"""The published code's and two peers' numbers."""

import numpy as np
import pytest

from sicl_jax.evaluation import distances, evaluate_dataset, rules
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.ranking import rank
from sicl_jax.evaluation.reranking import reranked_rows

RULES = {
    "sicl": rules.RELEASED,
    "standard": rules.STANDARD,
    "cloth_changing": rules.CLOTH_CHANGING,
    "ltcc_cloth_changing": rules.CLOTH_CHANGING,
    "same_clothes": rules.SAME_CLOTHES_ONLY,
    "all_gallery": rules.NOTHING,
}


def test_distances(arrays, query, gallery):
    found = distances.distance_rows(query, gallery)(0, len(query))
    np.testing.assert_allclose(found, arrays["distance"], atol=2e-6)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("block_bytes", [1, 7 * 400 * 4, 2**26])
def test_rankings(arrays, query, gallery, name, block_bytes):
    ranking = rank(query, gallery, {name: RULES[name]}, block_bytes=block_bytes)[name]
    first = ranking.first_match[ranking.first_match > 0]
    for k, expected in enumerate(arrays[f"{name}_cmc"], start=1):
        assert np.mean(first <= k) == pytest.approx(expected, abs=1e-6)
    result = summarize(ranking)
    np.testing.assert_allclose(result.cmc, arrays[f"{name}_cmc"][:50], atol=1e-6)
    assert result.mAP == pytest.approx(float(arrays[f"{name}_map"]), abs=1e-9)


def test_one_pass_serves_all_rules(query, gallery):
    together = rank(query, gallery, RULES)
    for name, rule in RULES.items():
        alone = rank(query, gallery, {name: rule})[name]
        np.testing.assert_array_equal(together[name].average_precision, alone.average_precision)


def test_skipped_queries_are_counted(query, gallery):
    """In the golden file one query has no match in its own clothes in another camera."""
    result = summarize(rank(query, gallery, {"same": rules.SAME_CLOTHES_ONLY})["same"])
    assert (result.queries, result.skipped) == (59, 1)


def test_protocols_of_a_data_set(arrays, query, gallery):
    results = evaluate_dataset("ltcc", {"query": query, "gallery": gallery})
    for protocol, name in {
        "standard": "standard",
        "standard/released": "sicl",
        "cloth_changing": "ltcc_cloth_changing",
    }.items():
        assert results[protocol].rank1 == pytest.approx(float(arrays[f"{name}_cmc"][0]))
        assert results[protocol].mAP == pytest.approx(float(arrays[f"{name}_map"]))


@pytest.mark.parametrize("height", [60, 7])
def test_reranked_distances(arrays, query, gallery, height):
    rows = reranked_rows(query.features, gallery.features)
    blocks = [rows(start, min(start + height, 60)) for start in range(0, 60, height)]
    np.testing.assert_allclose(np.concatenate(blocks), arrays["reranked_distance"], atol=2e-6)
