"""k-reciprocal re-ranking (Zhong et al., CVPR 2017), sparse and in blocks.

Queries and gallery together are N = Q + G points. Each point gets a vector V over the points that
are its k-reciprocal neighbours, some tens of non-zeros, and the Jaccard distance between such
vectors is mixed with the original distance. Nothing here is N x N: neighbours are searched block
by block, V and all sets are sparse, and final distances are made for a block of queries at a time.

The original distance is (d(i, j) / max_k d(i, k))^2 with d the squared Euclidean one: published
code squares the distances it is given, and re-identification code gives it squared ones. This
package does the same, so that its figures compare with the field's.

The encoding is that of `sicl_jax.clustering`, with other lists (one neighbour more) and weights
(scaled by the farthest point); and distances are wanted for every query and gallery image, where
clustering wants them for the pairs that meet.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Int32

from sicl_jax.clustering import kernels
from sicl_jax.clustering.jaccard import encoding_rows
from sicl_jax.errors import UsageError
from sicl_jax.evaluation.distances import (
    BLOCK_BYTES,
    Block,
    DistanceRows,
    euclidean_rows,
    row_ranges,
)
from sicl_jax.native import compiled


@dataclasses.dataclass(frozen=True)
class Reranking:
    """Parameters, with the paper's values.

    Attributes:
        k1: Nearest neighbours that may be reciprocal, the point itself not counted.
        k2: Nearest neighbours whose vectors are averaged, the point itself among them.
        weight: Share of the original distance in the final one (the paper's lambda).
    """

    k1: int = 20
    k2: int = 6
    weight: float = 0.3

    def __post_init__(self):
        """Checks the parameters.

        Raises:
            UsageError: A parameter out of its range.
        """
        if self.k1 < 1 or self.k2 < 1 or not 0 <= self.weight <= 1:
            raise UsageError(
                f"re-ranking with k1 = {self.k1}, k2 = {self.k2}, weight = {self.weight}: "
                "k1 and k2 must be 1 or more, the weight from 0 to 1"
            )


def reranked_rows(
    queries: Float32[np.ndarray, "Q D"],
    gallery: Float32[np.ndarray, "G D"],
    parameters: Reranking = Reranking(),  # noqa: B008 - frozen.
    *,
    block_bytes: int = BLOCK_BYTES,
    advance: Callable[[int], None] = lambda _: None,
) -> DistanceRows:
    """A function that computes re-ranked distances of a range of queries to the gallery.

    The work on neighbours, O(N^2 D) time and O(N k) memory, is done here and now.

    Args:
        queries: Features of the queries.
        gallery: Features of the gallery.
        parameters: Of the method.
        block_bytes: Memory of one block of distances.
        advance: Told the number of points done here, N in all.
    """
    points = np.concatenate([queries, gallery])
    neighbors, farthest = _neighbors(points, parameters.k1 + 1, block_bytes, advance)
    vectors = _encode(points, neighbors, farthest, parameters)
    query_vectors = vectors[: len(queries)]
    columns = vectors[len(queries) :].tocsc()
    original = euclidean_rows(queries, gallery)
    weight = np.float32(parameters.weight)

    def rows(start: int, stop: int) -> Block:
        block = original(start, stop)
        block /= farthest[start:stop, None]
        block *= block
        block *= weight
        part = query_vectors[start:stop]
        _add_jaccard(
            *(part.indptr, part.indices, part.data),
            *(columns.indptr, columns.indices, columns.data),
            np.float32(1) - weight,
            block,
        )
        return block

    return rows


def _neighbors(
    points: Float32[np.ndarray, "N D"], count: int, block_bytes: int, advance: Callable[[int], None]
) -> tuple[Int32[np.ndarray, "N K"], Float32[np.ndarray, "N"]]:
    """The nearest points of each, itself first, and the distance of the farthest.

    Of points at the same distance the one of the lower row is nearer.
    """
    size = len(points)
    count = min(count, size)
    rows = euclidean_rows(points, points)
    nearest = np.empty((size, count), np.int32)
    farthest = np.empty(size, np.float32)
    for start, stop in row_ranges(size, size, block_bytes):
        block = rows(start, stop)
        farthest[start:stop] = block.max(axis=1)
        block[np.arange(stop - start), np.arange(start, stop)] = -1  # Itself before duplicates.
        bound = np.partition(block, count - 1, axis=1)[:, count - 1]
        row, column = np.nonzero(block <= bound[:, None])
        order = np.lexsort((column, block[row, column], row))
        firsts = np.searchsorted(row, np.arange(stop - start))
        nearest[start:stop] = column[order[firsts[:, None] + np.arange(count)]]
        advance(stop - start)
    return nearest, np.maximum(farthest, np.float32(1e-30))


def _encode(
    points: Float32[np.ndarray, "N D"],
    neighbors: Int32[np.ndarray, "N K"],
    farthest: Float32[np.ndarray, "N"],
    parameters: Reranking,
) -> sp.csr_array:
    """V, (N, N) sparse, weighed by exp(-(d(i, j) / max_k d(i, k))^2)."""

    def weigh(*rows):
        kernels.weigh_by_distance(points, farthest, *rows)

    starts, columns, weights = encoding_rows(neighbors, parameters.k1, parameters.k2, weigh)
    return sp.csr_array((weights, columns, starts), shape=(len(points), len(points)))


@compiled
def _add_jaccard(
    starts, columns, weights, column_starts, rows, column_weights, share, block
):  # pragma: no cover - compiled
    """Add `share` times the Jaccard distance to a block of distances.

    Args:
        starts: Row starts of the CSR vectors of the block's queries.
        columns: Their columns.
        weights: Their values.
        column_starts: Column starts of the CSC vectors of the gallery.
        rows: Their rows.
        column_weights: Their values.
        share: Factor of the Jaccard distance.
        block: (B, G) float32, changed in place.
    """
    overlap = np.empty(block.shape[1], np.float32)
    for i in range(block.shape[0]):
        overlap[:] = 0
        for p in range(starts[i], starts[i + 1]):
            column = columns[p]
            for c in range(column_starts[column], column_starts[column + 1]):
                overlap[rows[c]] += min(weights[p], column_weights[c])
        for j in range(block.shape[1]):
            block[i, j] += share * (np.float32(1) - overlap[j] / (np.float32(2) - overlap[j]))
