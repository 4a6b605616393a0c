"""Where the true matches of each query stand in its ranked gallery, without sorting the gallery.

All that CMC, mAP and mINP need of a ranking are the places of the true matches. For a query, its
same-identity gallery images are sorted (some tens to hundreds), then one pass over the gallery
counts how many images precede each (`places.py`). That reads each distance once and holds no
G-sized array beside the block of distances.

Most protocols drop same-identity images only, so the counts of *other* identities do not depend
on them: they are made once and serve any number of rules. A rule about everybody takes a pass of
its own.

Ties: images at the same distance stand in the order of their rows in the gallery. So a ranking
is a function of the distances and the gallery's order alone.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple, Self

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from sicl_jax.data.files import usable_cores
from sicl_jax.evaluation.distances import BLOCK_BYTES, DistanceRows, distance_rows, row_ranges
from sicl_jax.evaluation.features import UNKNOWN, FeatureSet
from sicl_jax.evaluation.places import count_persons_before, place_members
from sicl_jax.evaluation.rules import Pairs, Rule

ROWS_PER_TASK = 16
FARTHEST = np.finfo(np.float32).max  # An infinite distance times a width of zero would be NaN.


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """What each query's ranked gallery comes to. A skipped query has zeros everywhere.

    Attributes:
        first_match: (Q,) rank of the nearest true match, counted from 1; 0 = no true match. Among
            images or, where identities are counted, among these.
        average_precision: (Q,) mean over true matches of the precision at their ranks.
        inverse_penalty: (Q,) number of true matches over the rank of the last one (INP;
            Ye et al., TPAMI 2022, eq. 1).
    """

    first_match: Int64[np.ndarray, "Q"]
    average_precision: Float64[np.ndarray, "Q"]
    inverse_penalty: Float64[np.ndarray, "Q"]

    def __len__(self) -> int:
        return len(self.first_match)

    @classmethod
    def skipped(cls, queries: int) -> Self:
        """A ranking in which every query is skipped."""
        return cls(np.zeros(queries, np.int64), np.zeros(queries), np.zeros(queries))

    def cmc(self, ranks: int) -> Float64[np.ndarray, "K"]:
        """Share of the queries that are not skipped with a true match among the first 1, 2, ..."""
        first = self.first_match[self.first_match > 0]
        return np.cumsum(np.bincount(first, minlength=ranks + 1)[1 : ranks + 1]) / len(first)

    def fill(self, start: int, part: Self):
        """Writes the rankings of some queries, from query `start` on."""
        for field in dataclasses.fields(self):
            values = getattr(part, field.name)
            getattr(self, field.name)[start : start + len(values)] = values

    def take(self, rows: np.ndarray | slice) -> Self:
        """The rankings of some of the queries."""
        fields = dataclasses.fields(self)
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields})


def join(rankings: Iterable[Ranking]) -> Ranking:
    """The rankings of all queries of several tests, one after another."""
    rankings = list(rankings)
    return Ranking(
        **{
            field.name: np.concatenate([getattr(ranking, field.name) for ranking in rankings])
            for field in dataclasses.fields(Ranking)
        }
    )


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


class _Placed(NamedTuple):
    """Same-identity images of a block's queries, one query after another, nearest first.

    Attributes:
        pairs: The P pairs of a query and such an image.
        counts: (B,) pairs of each query.
        nearer: (P,) how many images of other identities precede the pair's image.
        steps: (P,) how many pairs of its query there are up to this one, its step included.
    """

    pairs: Pairs
    counts: Int64[np.ndarray, "B"]
    nearer: Int32[np.ndarray, "P"]
    steps: Int32[np.ndarray, "P"]


def rank(
    query: FeatureSet,
    gallery: FeatureSet,
    rules: Mapping[str, Rule],
    *,
    count: Literal["images", "identities"] = "images",
    ties: Literal["in order", "together"] = "in order",
    distances: DistanceRows | None = None,
    block_bytes: int = BLOCK_BYTES,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Ranking]:
    """Ranks the gallery for every query, under each rule.

    Args:
        query: Q queries.
        gallery: G images.
        rules: What is dropped from the gallery, by name; all share the same distances.
        count: What the rank of the first match counts: images, or identities, each once and at
            its first image (`docs/methods/cclnet.md`, section 8). The other figures count images.
        ties: Whether average precision takes images at the same distance in the gallery's order
            or as one step, as scikit-learn does. The other figures take them in order.
        distances: Distances of a range of queries to the gallery; those of the features if None.
        block_bytes: Memory of one block of distances; bounds the memory of the whole.
        advance: Told the number of queries done, block by block.

    Returns:
        The ranking under each rule.

    Raises:
        UserError: Queries and gallery are of different similarities or numbers of features.
    """
    if distances is None:
        distances = distance_rows(query, gallery)
    ranker = _Ranker(query, gallery)
    rankings = {name: Ranking.skipped(len(query)) for name in rules}
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        for start, stop in row_ranges(len(query), len(gallery), block_bytes):
            block = np.ascontiguousarray(distances(start, stop), np.float32)
            shared = None
            for name, rule in rules.items():
                if rule.everybody:
                    left = ranker.without_others(block, start, rule)
                    placed = ranker.place(pool, left, start)
                else:
                    left = block
                    if shared is None:
                        shared = ranker.place(pool, block, start)
                    placed = shared
                part, first_rows = _apply(rule, placed)
                if ties == "together":
                    stepped = ranker.place(pool, left, start, together=True)
                    precision = _apply(rule, stepped)[0].average_precision
                    part = dataclasses.replace(part, average_precision=precision)
                if count == "identities":
                    before = ranker.persons_before(left, start, first_rows)
                    first = np.where(first_rows < 0, 0, before + 1)
                    part = dataclasses.replace(part, first_match=first)
                rankings[name].fill(start, part)
            advance(stop - start)
    return rankings


class _Ranker:
    """What a ranking needs to know of all queries and the gallery."""

    def __init__(self, query: FeatureSet, gallery: FeatureSet):
        self._query, self._gallery = query, gallery
        self._members = _members(query.label("identity"), gallery.label("identity"))
        self._everything = np.arange(len(gallery))

    def place(
        self, pool: ThreadPoolExecutor, block: Float32[np.ndarray, "B G"], start: int, **ties: bool
    ) -> _Placed:
        """Places the members of a block of queries, from query `start` on."""
        height = len(block)
        counts = self._members.counts[start : start + height]
        starts = self._members.starts[start : start + height]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        rows, nearer, steps = np.empty((3, offsets[-1]), np.int32)
        tasks = [
            pool.submit(
                place_members,
                block[first : first + ROWS_PER_TASK],
                self._members.order,
                starts[first : first + ROWS_PER_TASK],
                offsets[first : first + ROWS_PER_TASK + 1],
                ties.get("together", False),
                rows,
                nearer,
                steps,
            )
            for first in range(0, height, ROWS_PER_TASK)
        ]
        for task in tasks:
            task.result()
        queries = np.repeat(np.arange(start, start + height), counts)
        return _Placed(Pairs(self._query, self._gallery, queries, rows), counts, nearer, steps)

    def without_others(
        self, block: Float32[np.ndarray, "B G"], start: int, rule: Rule
    ) -> Float32[np.ndarray, "B G"]:
        """The block with `FARTHEST` as distance to the images of others that a rule drops."""
        block = block.copy()
        for place, row in enumerate(block):
            queries = np.full(len(row), start + place)
            pairs = Pairs(self._query, self._gallery, queries, self._everything)
            row[rule.drops(pairs) & ~pairs.same("identity")] = FARTHEST
        return block

    def persons_before(
        self, block: Float32[np.ndarray, "B G"], start: int, first_rows: Int64[np.ndarray, "B"]
    ) -> Int64[np.ndarray, "B"]:
        """How many other persons have an image before each query's first match."""
        identities = self._gallery.label("identity")
        persons = np.where(
            identities == UNKNOWN, identities.max(initial=0) + 1 + self._everything, identities
        )
        known, persons = np.unique(persons, return_inverse=True)
        own = self._query.label("identity")[start : start + len(block)]
        own = np.searchsorted(known, own)  # Of a query without a match it is never read.
        counts = np.empty(len(block), np.int64)
        count_persons_before(block, first_rows, own, persons, len(known), counts)
        return counts


def _members(query: Int32[np.ndarray, "Q"], gallery: Int32[np.ndarray, "G"]) -> _Members:
    order = np.argsort(gallery, kind="stable").astype(np.int32)
    identities = gallery[order]
    starts = np.searchsorted(identities, query, side="left")
    stops = np.searchsorted(identities, query, side="right")
    counts = np.where(query == UNKNOWN, 0, stops - starts)
    return _Members(order, starts.astype(np.int64), counts.astype(np.int64))


def _apply(rule: Rule, placed: _Placed) -> tuple[Ranking, Int64[np.ndarray, "B"]]:
    """Rankings of a block of queries under a rule, and each first match's gallery row, or -1."""
    counts = placed.counts
    kept = ~rule.test(placed.pairs)
    query = np.repeat(np.arange(len(counts)), counts)
    matches = np.bincount(query[kept], minlength=len(counts))
    # The true matches of all queries up to each pair's step, from which those of the queries
    # before are taken off: this is the n-th of its query, n from 1. Its rank counts others too.
    up_to = np.concatenate([[0], np.cumsum(kept)])
    starts = (np.cumsum(counts) - counts)[query]
    nth = (up_to[starts + placed.steps] - up_to[starts])[kept]
    ranks = placed.nearer[kept] + nth
    query = query[kept]
    precision_sum = np.bincount(query, weights=nth / ranks, minlength=len(counts))
    found = matches > 0
    stops = np.cumsum(matches)
    first, last = np.zeros(len(counts), np.int64), np.ones(len(counts), np.int64)
    first[found] = ranks[(stops - matches)[found]]
    last[found] = ranks[stops[found] - 1]
    first_rows = np.full(len(counts), -1, np.int64)
    first_rows[found] = placed.pairs.gallery_rows[kept][(stops - matches)[found]]
    ranking = Ranking(first, precision_sum / np.maximum(matches, 1), matches / last)
    return ranking, first_rows
