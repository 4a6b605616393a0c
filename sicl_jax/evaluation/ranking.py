"""Where the true matches of each query stand in its ranked gallery, without sorting the gallery.

All that CMC, mAP and mINP need of a ranking are the places of the true matches. For a query, its
same-identity gallery images are sorted (some tens to hundreds), then one pass over the gallery
counts how many images precede each (`places.py`). That reads each distance once and holds no
G-sized array beside the block of distances.

What a protocol drops are same-identity images only, so the counts of *other* identities do not
depend on it: they are made once and serve any number of rules.

Ties: images at the same distance stand in the order of their rows in the gallery. So a ranking
is a function of the distances and the gallery's order alone.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from sicl_jax.evaluation.distances import BLOCK_BYTES, DistanceRows, euclidean_rows, row_ranges
from sicl_jax.evaluation.features import UNKNOWN, FeatureSet
from sicl_jax.evaluation.places import place_members
from sicl_jax.evaluation.rules import Pairs, Rule

ROWS_PER_TASK = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """What each query's ranked gallery comes to. A skipped query has zeros everywhere.

    Attributes:
        first_match: (Q,) rank of the nearest true match, counted from 1; 0 = no true match.
        average_precision: (Q,) mean over true matches of the precision at their ranks.
        inverse_penalty: (Q,) number of true matches over the rank of the last one (INP;
            Ye et al., TPAMI 2022, eq. 1).
    """

    first_match: Int64[np.ndarray, "Q"]
    average_precision: Float64[np.ndarray, "Q"]
    inverse_penalty: Float64[np.ndarray, "Q"]

    @classmethod
    def skipped(cls, queries: int) -> Self:
        """A ranking in which every query is skipped."""
        return cls(np.zeros(queries, np.int64), np.zeros(queries), np.zeros(queries))

    def fill(self, start: int, part: Self):
        """Write the rankings of some queries, from query `start` on."""
        for field in dataclasses.fields(self):
            values = getattr(part, field.name)
            getattr(self, field.name)[start : start + len(values)] = values


@dataclasses.dataclass(frozen=True, eq=False)
class _Members:
    """Same-identity gallery rows of each query, in compressed rows.

    Attributes:
        order: (G,) gallery rows sorted by identity, then by row.
        starts: (Q,) where each query's identity starts in `order`.
        counts: (Q,) how many gallery images the identity has.
    """

    order: Int32[np.ndarray, "G"]
    starts: Int64[np.ndarray, "Q"]
    counts: Int64[np.ndarray, "Q"]


def rank(
    query: FeatureSet,
    gallery: FeatureSet,
    rules: Mapping[str, Rule],
    *,
    distances: DistanceRows | None = None,
    block_bytes: int = BLOCK_BYTES,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Ranking]:
    """Rank the gallery for every query, under each rule.

    Args:
        query: Q queries.
        gallery: G images.
        rules: what is dropped from the gallery, by name; all share the same distances.
        distances: distances of a range of queries to the gallery; squared Euclidean ones of the
            features if None.
        block_bytes: memory of one block of distances; bounds the memory of the whole.
        advance: told the number of queries done, block by block.

    Returns:
        The ranking under each rule.
    """
    if distances is None:
        distances = euclidean_rows(query.features, gallery.features)
    members = _members(query, gallery)
    rankings = {name: Ranking.skipped(len(query)) for name in rules}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for start, stop in row_ranges(len(query), len(gallery), block_bytes):
            counts = members.counts[start:stop]
            block = np.ascontiguousarray(distances(start, stop), np.float32)
            rows, nearer = _places(pool, block, members, start)
            pairs = Pairs(query, gallery, np.repeat(np.arange(start, stop), counts), rows)
            for name, rule in rules.items():
                rankings[name].fill(start, _apply(rule, pairs, nearer, counts))
            advance(stop - start)
    return rankings


def _members(query: FeatureSet, gallery: FeatureSet) -> _Members:
    order = np.argsort(gallery.identities, kind="stable").astype(np.int32)
    identities = gallery.identities[order]
    starts = np.searchsorted(identities, query.identities, side="left")
    stops = np.searchsorted(identities, query.identities, side="right")
    counts = np.where(query.identities == UNKNOWN, 0, stops - starts)
    return _Members(order, starts.astype(np.int64), counts.astype(np.int64))


def _places(
    pool: ThreadPoolExecutor, block: Float32[np.ndarray, "B G"], members: _Members, start: int
) -> tuple[Int32[np.ndarray, "P"], Int32[np.ndarray, "P"]]:
    """Same-identity gallery rows of each query of a block, nearest first, one query after another.

    Returns:
        The rows, and for each how many images of other identities precede it.
    """
    height = len(block)
    counts = members.counts[start : start + height]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    rows = np.empty(offsets[-1], np.int32)
    nearer = np.empty(offsets[-1], np.int32)
    tasks = [
        pool.submit(
            place_members,
            block[first : first + ROWS_PER_TASK],
            members.order,
            members.starts[start + first : start + first + ROWS_PER_TASK],
            offsets[first : first + ROWS_PER_TASK + 1],
            rows,
            nearer,
        )
        for first in range(0, height, ROWS_PER_TASK)
    ]
    for task in tasks:
        task.result()
    return rows, nearer


def _apply(
    rule: Rule, pairs: Pairs, nearer: Int32[np.ndarray, "P"], counts: Int64[np.ndarray, "B"]
) -> Ranking:
    """Rankings of a block of queries, whose pairs are sorted nearest first, under a rule."""
    kept = ~rule.drops(pairs)
    query = np.repeat(np.arange(len(counts)), counts)[kept]
    matches = np.bincount(query, minlength=len(counts))
    # The n-th true match of its query, n from 1; then its rank counts the others before it too.
    nth = np.arange(1, len(query) + 1) - np.repeat(np.cumsum(matches) - matches, matches)
    ranks = nearer[kept] + nth
    precision_sum = np.bincount(query, weights=nth / ranks, minlength=len(counts))
    first = np.zeros(len(counts), np.int64)
    first[query[nth == 1]] = ranks[nth == 1]
    last = np.ones(len(counts), np.int64)
    is_last = nth == matches[query]
    last[query[is_last]] = ranks[is_last]
    return Ranking(first, precision_sum / np.maximum(matches, 1), matches / last)
