"""`evaluation.npz`: distances, CMC and mAP of each protocol, re-ranking (algorithm.md 8)."""

from collections.abc import Iterator

import numpy as np

from sicl_jax.evaluation import FeatureSet, Result, distances, rules
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.ranking import rank
from sicl_jax.evaluation.reranking import reranked_rows
from sicl_jax.verify.checks import Check
from sicl_jax.verify.files import Golden

_TOLERANCE = 1e-5
_RULES = {
    "sicl": rules.RELEASED,
    "standard": rules.STANDARD,
    "cloth_changing": rules.CLOTH_CHANGING,
    "ltcc_cloth_changing": rules.CLOTH_CHANGING,
    "same_clothes": rules.SAME_CLOTHES_ONLY,
    "all_gallery": rules.NOTHING,
}


def check(golden: Golden) -> Iterator[Check]:
    """Recomputes the file."""
    query, gallery = (_feature_set(golden, side) for side in ("query", "gallery"))
    found = distances.distance_rows(query, gallery)(0, len(query))
    yield golden.check("distance", found, _TOLERANCE)

    rankings = rank(query, gallery, _RULES)
    for name, ranking in rankings.items():
        result = summarize(ranking)
        ranks = len(golden.expected(f"{name}_cmc"))
        yield golden.check(f"{name}_cmc", _cmc(result, ranks), _TOLERANCE)
        yield golden.check(f"{name}_map", result.mAP, _TOLERANCE)

    reranked = reranked_rows(query.features, gallery.features)(0, len(query))
    yield golden.check("reranked_distance", reranked, 1e-4)


def _cmc(result: Result, ranks: int) -> np.ndarray:
    """The curve up to a rank; where the result's own curve ends, from its rankings."""
    first = result.rankings[0].first_match
    first = first[first > 0]
    later = [np.mean(first <= rank) for rank in range(len(result.cmc) + 1, ranks + 1)]
    return np.concatenate([result.cmc, later])[:ranks]


def _feature_set(golden: Golden, side: str) -> FeatureSet:
    names = {"identity": "ids", "camera": "cameras", "clothes": "clothes"}
    labels = {label: golden[f"{side}_{name}"] for label, name in names.items()}
    return FeatureSet(golden[f"{side}_features"], labels)
