"""The ranked galleries of a few queries, for people to look at."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float32, Int32

from sicl_jax.evaluation.distances import distance_rows
from sicl_jax.evaluation.features import FeatureSet
from sicl_jax.evaluation.rules import NOTHING, Pairs, Rule

NONE = -1


@dataclasses.dataclass(frozen=True, eq=False)
class RankedGalleries:
    """The first images of the ranked gallery of some queries.

    Where fewer are left than asked for, rows are filled with `rows` -1 and infinite distances.

    Attributes:
        rows: (R, K) gallery rows, nearest first.
        distances: (R, K).
        matches: (R, K) whether the image shows the query's person.
        same_clothes: (R, K) whether it does so in the query's clothes, as far as known.
    """

    rows: Int32[np.ndarray, "R K"]
    distances: Float32[np.ndarray, "R K"]
    matches: Bool[np.ndarray, "R K"]
    same_clothes: Bool[np.ndarray, "R K"]


def ranked_galleries(
    query: FeatureSet,
    gallery: FeatureSet,
    chosen: Int32[np.ndarray, "R"],
    *,
    rule: Rule = NOTHING,
    top: int = 10,
) -> RankedGalleries:
    """Ranks the gallery for some queries and keeps the first images.

    Args:
        query: The queries.
        gallery: The gallery.
        chosen: Rows of the queries to rank for.
        rule: What is dropped from the gallery.
        top: Number of images to keep.
    """
    distances = distance_rows(query, gallery)
    chosen = np.asarray(chosen, np.int32)
    width = min(top, len(gallery))
    rows = np.full((len(chosen), top), NONE, np.int32)
    nearest = np.full((len(chosen), top), np.inf, np.float32)
    everything = np.arange(len(gallery))
    for place, q in enumerate(chosen):
        line = distances(q, q + 1)[0]
        line[rule.drops(Pairs(query, gallery, np.full(len(gallery), q), everything))] = np.inf
        order = np.argsort(line, kind="stable")[:width]
        rows[place, :width] = np.where(np.isfinite(line[order]), order, NONE)
        nearest[place, :width] = line[order]
    shown = Pairs(query, gallery, np.repeat(chosen, top), rows.ravel())
    there = rows != NONE
    matches = shown.same("identity").reshape(rows.shape) & there
    same_clothes = shown.same("clothes").reshape(rows.shape) & matches
    return RankedGalleries(rows, nearest, matches, same_clothes)
