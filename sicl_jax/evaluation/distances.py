"""Distances of queries to a gallery, a block of queries at a time."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float32

from sicl_jax.errors import UserError
from sicl_jax.evaluation.features import FeatureSet

Block = Float32[np.ndarray, "B G"]
DistanceRows = Callable[[int, int], Block]
"""Distances of the queries `start <= q < stop` to the whole gallery; may be written to."""

BLOCK_BYTES = 64 * 2**20
"""Memory of one block of distances: large enough for BLAS to be at full speed."""


def distance_rows(query: FeatureSet, gallery: FeatureSet) -> DistanceRows:
    """A function that computes the distances of a range of queries, as their similarity has it.

    Raises:
        UserError: Query and gallery are of different similarities or numbers of features.
    """
    kinds = [(side.similarity, side.features.shape[1]) for side in (query, gallery)]
    if kinds[0] != kinds[1]:
        words = " and ".join(f"{similarity}, {size} numbers a row" for similarity, size in kinds)
        raise UserError(f"features of queries and gallery differ ({words}); embed them alike")
    rows = {"euclidean": euclidean_rows, "dot": _dot_rows}[query.similarity]
    return rows(query.features, gallery.features)


def similarity_of(distance: float, similarity: str) -> float:
    """What people are shown for a distance: of unit rows the cosine, else the inner product."""
    return 1 - distance / 2 if similarity == "euclidean" else 1 - distance


def _dot_rows(
    queries: Float32[np.ndarray, "Q D"], gallery: Float32[np.ndarray, "G D"]
) -> DistanceRows:
    def rows(start: int, stop: int) -> Block:
        block = queries[start:stop] @ gallery.T
        return np.subtract(1, block, out=block)

    return rows


def euclidean_rows(
    queries: Float32[np.ndarray, "Q D"], gallery: Float32[np.ndarray, "G D"]
) -> DistanceRows:
    """A function that computes |q - g|^2, never negative, for a range of queries."""
    query_squares = np.einsum("nd,nd->n", queries, queries)
    gallery_squares = np.einsum("nd,nd->n", gallery, gallery)

    def rows(start: int, stop: int) -> Block:
        block = queries[start:stop] @ gallery.T
        block *= -2.0
        block += query_squares[start:stop, None]
        block += gallery_squares
        return np.maximum(block, 0.0, out=block)

    return rows


def row_ranges(count: int, width: int, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, int]]:
    """Ranges of rows that cover `count` rows of `width` float32 each in blocks of bounded size."""
    height = max(1, block_bytes // (4 * max(1, width)))
    for start in range(0, count, height):
        yield start, min(start + height, count)
