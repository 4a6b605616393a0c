"""Squared Euclidean distances, a block of queries at a time."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float32

Block = Float32[np.ndarray, "B G"]
DistanceRows = Callable[[int, int], Block]
"""Distances of the queries `start <= q < stop` to the whole gallery; may be written to."""

BLOCK_BYTES = 64 * 2**20
"""Memory of one block of distances: large enough for BLAS to be at full speed."""


def squared_euclidean(
    a: Float32[np.ndarray, "M D"], b: Float32[np.ndarray, "N D"]
) -> Float32[np.ndarray, "M N"]:
    """|a_m - b_n|^2 for every pair, never negative."""
    return euclidean_rows(a, b)(0, len(a))


def unit_squared_euclidean(
    a: Float32[np.ndarray, "M D"], b: Float32[np.ndarray, "N D"]
) -> Float32[np.ndarray, "M N"]:
    """The same for unit rows, where it is 2 - 2 a_m . b_n, never negative."""
    block = a @ b.T
    block *= -2.0
    block += 2.0
    return np.maximum(block, 0.0, out=block)


def euclidean_rows(
    queries: Float32[np.ndarray, "Q D"], gallery: Float32[np.ndarray, "G D"]
) -> DistanceRows:
    """A function that computes squared Euclidean distances of a range of queries."""
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
