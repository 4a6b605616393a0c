"""`evaluation.npz`: distances, CMC and mAP of each protocol, re-ranking (algorithm.md 8)."""

from collections.abc import Iterator, Mapping

from sicl_jax.evaluation import FeatureSet, distances, rules
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.ranking import rank
from sicl_jax.evaluation.reranking import reranked_rows
from sicl_jax.evaluation.rules import Rule
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
    """Recomputes the file of SiCL."""
    query, gallery = sides(golden, {"identity": "ids", "camera": "cameras", "clothes": "clothes"})
    yield from check_protocols(golden, query, gallery, _RULES)
    reranked = reranked_rows(query.features, gallery.features)(0, len(query))
    yield golden.check("reranked_distance", reranked, 1e-4)


def check_protocols(
    golden: Golden, query: FeatureSet, gallery: FeatureSet, dropped: Mapping[str, Rule]
) -> Iterator[Check]:
    """Distances, and each protocol's curve and mean average precision.

    Args:
        golden: The file.
        query: The queries.
        gallery: The gallery.
        dropped: What each protocol drops, by its name in the file.
    """
    found = distances.distance_rows(query, gallery)(0, len(query))
    yield golden.check("distance", found, _TOLERANCE)
    for name, ranking in rank(query, gallery, dropped).items():
        curve = ranking.cmc(len(golden.expected(f"{name}_cmc")))
        yield golden.check(f"{name}_cmc", curve, _TOLERANCE)
        yield golden.check(f"{name}_map", summarize(ranking).mAP, _TOLERANCE)


def sides(golden: Golden, labels: Mapping[str, str]) -> tuple[FeatureSet, FeatureSet]:
    """Queries and gallery of a file.

    Args:
        golden: The file.
        labels: The file's names of labels, less `query_` and `gallery_`.
    """
    query, gallery = (
        FeatureSet(
            golden[f"{side}_features"],
            {label: golden[f"{side}_{name}"] for label, name in labels.items()},
        )
        for side in ("query", "gallery")
    )
    return query, gallery
