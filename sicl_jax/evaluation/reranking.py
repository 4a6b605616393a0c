"""k-reciprocal re-ranking (Zhong et al., CVPR 2017), sparse and in blocks.

Queries and gallery together are N = Q + G points. Each point gets a vector V over the points that
are its k-reciprocal neighbours, some tens of non-zeros, and the Jaccard distance between such
vectors is mixed with the original distance. Nothing here is N x N: neighbours are searched block
by block, V and all sets are sparse, and final distances are made for a block of queries at a time.

The original distance is (d(i, j) / max_k d(i, k))^2 with d the squared Euclidean one: published
code squares the distances it is given, and re-identification code gives it squared ones. This
package does the same, so that its figures compare with the field's.

The Jaccard distance of `sicl_jax.clustering` is a relative of this one, not the same: it counts
neighbours differently, its weights are not scaled by the farthest point, and it is wanted for all
pairs that meet, where here it is wanted for every query and gallery image.
"""

import dataclasses
from collections.abc import Callable

import numba
import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Int32

from sicl_jax.errors import UsageError
from sicl_jax.evaluation.distances import (
    BLOCK_BYTES,
    Block,
    DistanceRows,
    euclidean_rows,
    row_ranges,
)


@dataclasses.dataclass(frozen=True)
class Reranking:
    """Parameters, with the paper's values.

    Attributes:
        k1: nearest neighbours that may be reciprocal, the point itself not counted.
        k2: nearest neighbours whose vectors are averaged, the point itself among them.
        weight: share of the original distance in the final one (the paper's lambda).
    """

    k1: int = 20
    k2: int = 6
    weight: float = 0.3

    def __post_init__(self):
        """Check the parameters.

        Raises:
            UsageError: a parameter out of its range.
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
        queries: features of the queries.
        gallery: features of the gallery.
        parameters: of the method.
        block_bytes: memory of one block of distances.
        advance: told the number of points done here, N in all.
    """
    points = np.concatenate([queries, gallery])
    neighbors, farthest = _neighbors(points, parameters.k1 + 1, block_bytes, advance)
    vectors = _encode(points, neighbors, farthest, parameters)
    del points
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
    """V, (N, N) sparse: rows sum to one (section 3.2 to 3.4 of the paper)."""
    reciprocal = _reciprocal(neighbors)
    half = _reciprocal(neighbors[:, : round(parameters.k1 / 2) + 1])
    # R*: a member's own half set joins if more than 2/3 of it lies in the unexpanded set.
    shared = (reciprocal @ half.T).multiply(reciprocal).tocoo()
    joins = 3 * shared.data > 2 * np.diff(half.indptr)[shared.col]
    joining = sp.csr_array(
        (joins[joins].astype(np.int32), (shared.row[joins], shared.col[joins])), shape=half.shape
    )
    expanded = (reciprocal + joining @ half).tocsr()
    vectors = _weigh(points, expanded, farthest)
    nearest = neighbors[:, : parameters.k2]
    mean = _indicator(nearest).astype(np.float32) * np.float32(1 / max(1, nearest.shape[1]))
    return (mean @ vectors).tocsr()


def _indicator(neighbors: Int32[np.ndarray, "N K"]) -> sp.csr_array:
    """(N, N) with a one where a column is among the row's neighbours."""
    size, count = neighbors.shape
    starts = count * np.arange(size + 1)
    ones = np.ones(size * count, np.int32)
    return sp.csr_array((ones, neighbors.ravel(), starts), shape=(size, size))


def _reciprocal(neighbors: Int32[np.ndarray, "N K"]) -> sp.csr_array:
    """R: a one where two points are among each other's neighbours."""
    forward = _indicator(neighbors)
    return forward.multiply(forward.T).tocsr()


def _weigh(
    points: Float32[np.ndarray, "N D"], members: sp.csr_array, farthest: Float32[np.ndarray, "N"]
) -> sp.csr_array:
    """Weights exp(-(d(i, j) / max_k d(i, k))^2) on the members of each row, of sum one."""
    weights = np.empty(members.nnz, np.float32)
    _fill_weights(points, members.indptr, members.indices, farthest, weights)
    return sp.csr_array((weights, members.indices, members.indptr), shape=members.shape)


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _fill_weights(points, starts, columns, farthest, weights):  # pragma: no cover - compiled
    for i in range(len(starts) - 1):
        total = np.float32(0)
        for p in range(starts[i], starts[i + 1]):
            square = np.float32(0)
            for d in range(points.shape[1]):
                difference = points[i, d] - points[columns[p], d]
                square += difference * difference
            weights[p] = np.exp(-((square / farthest[i]) ** 2))
            total += weights[p]
        for p in range(starts[i], starts[i + 1]):
            weights[p] /= total


@numba.njit(nogil=True, cache=True)
def _add_jaccard(
    starts, columns, weights, column_starts, rows, column_weights, share, block
):  # pragma: no cover - compiled
    """Add `share` times the Jaccard distance to a block of distances.

    Args:
        starts: row starts of the CSR vectors of the block's queries.
        columns: their columns.
        weights: their values.
        column_starts: column starts of the CSC vectors of the gallery.
        rows: their rows.
        column_weights: their values.
        share: factor of the Jaccard distance.
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
