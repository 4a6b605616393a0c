"""Which queries to show: the best, the worst, or a fair cross-section."""

import numpy as np
from jaxtyping import Int32

from sicl_jax.evaluation.ranking import Ranking

Rows = Int32[np.ndarray, "R"]


def cross_section(ranking: Ranking, count: int) -> Rows:
    """Queries at even steps from the best average precision to the worst, both included."""
    order = _best_first(ranking)
    places = np.linspace(0, len(order) - 1, min(count, len(order)))
    return order[np.round(places).astype(int)].astype(np.int32)


def best(ranking: Ranking, identities: np.ndarray, count: int) -> Rows:
    """Of the better half of the queries, the best of each person, then the second best, and so on.

    Args:
        ranking: What each query came to.
        identities: (Q,) of the queries.
        count: R, or fewer if there are not as many.
    """
    order = _best_first(ranking)
    return _of_many_persons(order[: -(-len(order) // 2)], identities, count)


def worst(ranking: Ranking, identities: np.ndarray, count: int) -> Rows:
    """As `best`, of the worse half, from the lowest average precision on."""
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
