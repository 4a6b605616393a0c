"""Ranked galleries of a run's test: where it does best, and where worst."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int32

from sicl_jax.data.dataset import ReidDataset
from sicl_jax.evaluation import FeatureSet, Result, protocols
from sicl_jax.evaluation.distances import similarity_of
from sicl_jax.evaluation.evaluate import select_sides
from sicl_jax.evaluation.galleries import NONE, ranked_galleries
from sicl_jax.evaluation.protocols import Protocol
from sicl_jax.evaluation.ranking import Ranking
from sicl_jax.report import ranked
from sicl_jax.report.document import element, evenly, note, section
from sicl_jax.report.marks import marks

_TOP = 10


def galleries_section(
    dataset: ReidDataset,
    features: Mapping[str, FeatureSet],
    results: Mapping[str, Result],
    *,
    queries: int = 6,
) -> str:
    """A section with the best and the worst queries of the data set's first protocol.

    Of a protocol of several parts it shows the first one.

    Args:
        dataset: The data set, for its images.
        features: Features of its test splits.
        results: Results of its protocols.
        queries: Number of the best, and of the worst, queries.
    """
    protocol = _shown(dataset.name, results)
    query, gallery = select_sides(protocol.parts[0], features)
    ranking = results[protocol.name].rankings[0].take(slice(len(query)))
    lines = _Lines(dataset, protocol, query, gallery, ranking)
    best = best_queries(ranking, query.labels["identity"], queries)
    worst = worst_queries(ranking, query.labels["identity"], queries)
    words = note(
        f"Protocol {protocol.name}: the nearest of {len(gallery):,} gallery images for the queries "
        "of the highest and of the lowest average precision, of as many people as possible. "
        f"Dropped for a query: {protocol.rule}. Under an image: its rank and its similarity."
    )
    found = [lines.html(rows) for rows in (best, worst)]
    kinds = [mark for of_rows in lines.marks for mark in of_rows if mark is not None]
    return section(
        "galleries", "Ranked galleries", words, ranked.key(kinds),
        element("h3", "Best queries"), found[0],
        element("h3", "Worst queries") if len(worst) else "", found[1],
    )  # fmt: skip


def _shown(dataset_name: str, results: Mapping[str, Result]) -> Protocol:
    """The first protocol with one gallery for all draws."""
    ran = [protocol for protocol in protocols(dataset_name) if protocol.name in results]
    whole = [protocol for protocol in ran if not protocol.drawn]
    return (whole or ran)[0]


class _Lines:
    """Ranked galleries of one protocol as HTML; keeps the marks that it has shown."""

    def __init__(self, dataset, protocol, query: FeatureSet, gallery: FeatureSet, ranking):
        sides = protocol.parts[0].query, protocol.parts[0].gallery
        self._sides = [dataset.split(side.split) for side in sides]
        # A protocol may take some images of a split alone; names lead back to the pictures.
        self._rows = [{name: row for row, name in enumerate(side.names)} for side in self._sides]
        self._query, self._gallery = query, gallery
        self._rule, self._ranking = protocol.rule, ranking
        self.marks: list[list] = []

    def html(self, chosen: Sequence[int]) -> str:
        found = ranked_galleries(self._query, self._gallery, chosen, rule=self._rule, top=_TOP)
        table = marks(self._query, self._gallery, found, chosen)
        self.marks += table
        lines = []
        for place, q in enumerate(chosen):
            hits = [
                self._hit(row, distance, mark)
                for row, distance, mark in zip(
                    found.rows[place], found.distances[place], table[place], strict=True
                )
                if row != NONE
            ]
            image = self._image(0, self._query.names[q])
            caption = (
                f"average precision {self._ranking.average_precision[q]:.2f}, first true match at "
                f"rank {self._ranking.first_match[q]}"
            )
            lines.append(ranked.ranked_line(image, self._query.names[q], hits, caption))
        return "".join(lines)

    def _hit(self, row: int, distance: float, mark) -> ranked.Found:
        name = self._gallery.names[row]
        return ranked.Found(
            self._image(1, name),
            name,
            mark,
            f"{similarity_of(distance, self._query.similarity):.3f}",
        )

    def _image(self, side: int, name: str) -> np.ndarray:
        return self._sides[side].pixels["image"][self._rows[side][name]]


# ---- which queries to show -----------------------------------------------------------------

Rows = Int32[np.ndarray, "R"]


def cross_section(ranking: Ranking, count: int) -> Rows:
    """Queries at even steps from the best average precision to the worst, both included."""
    order = _best_first(ranking)
    return order[evenly(len(order), count)].astype(np.int32)


def best_queries(ranking: Ranking, identities: np.ndarray, count: int) -> Rows:
    """Of the better half of the queries, the best of each person, then the second best, and so on.

    Args:
        ranking: What each query came to.
        identities: (Q,) of the queries.
        count: R, or fewer if there are not as many.
    """
    order = _best_first(ranking)
    return _of_many_persons(order[: -(-len(order) // 2)], identities, count)


def worst_queries(ranking: Ranking, identities: np.ndarray, count: int) -> Rows:
    """As `best_queries`, of the worse half, from the lowest average precision on."""
    order = _best_first(ranking)
    return _of_many_persons(order[-(-len(order) // 2) :][::-1], identities, count)


def _best_first(ranking: Ranking) -> np.ndarray:
    """Queries that have a true match, by falling average precision."""
    counted = np.flatnonzero(ranking.first_match > 0)
    return counted[np.argsort(-ranking.average_precision[counted], kind="stable")]


def _of_many_persons(order: np.ndarray, identities: np.ndarray, count: int) -> Rows:
    """The first of each person, then the second of each, and so on; in that order, `count`."""
    seen: dict[int, int] = {}
    turn = np.empty(len(order), int)
    for place, row in enumerate(order):
        person = int(identities[row])
        turn[place] = seen[person] = seen.get(person, -1) + 1
    chosen = np.argsort(turn, kind="stable")[:count]
    return order[np.sort(chosen)].astype(np.int32)
