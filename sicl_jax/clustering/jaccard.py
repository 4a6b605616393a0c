"""Jaccard similarity of k-reciprocal encodings, sparse (Zhong et al., CVPR 2017; SiCL sec. 3).

A row of the encoding V has some tens of non-zeros, so 1 - d(i, j) = m / (2 - m) with
m = sum_k min(V_ik, V_jk) is gathered over the columns that i and j share; what does not meet in
any column has d = 1 and is never looked at. Memory is O(N k), and threads work on blocks of rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from sicl_jax.clustering import kernels
from sicl_jax.clustering.blocks import map_blocks
from sicl_jax.clustering.search import Neighbors, Search, nearest_neighbors, unit_rows
from sicl_jax.errors import UsageError

BLOCK_ROWS = 512


@dataclass(frozen=True)
class Encoding:
    """V by rows (CSR) and by columns (CSC), float32.

    Attributes:
        row_starts, columns, weights: CSR of V.
        column_starts, rows, column_weights: CSC of V, rows rising within a column.
        positions: Where in its column each entry of the CSR is.
    """

    row_starts: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    column_starts: np.ndarray
    rows: np.ndarray
    column_weights: np.ndarray
    positions: np.ndarray

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.row_starts) - 1

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What the kernels take, in their order, without `positions`."""
        return (
            self.row_starts,
            self.columns,
            self.weights,
            self.column_starts,
            self.rows,
            self.column_weights,
        )


def check_neighbor_counts(k1: int, k2: int) -> None:
    """Raises UsageError unless both are at least 1."""
    if k1 < 1 or k2 < 1:
        raise UsageError(f"k1 = {k1}, k2 = {k2}: both have to be at least 1")


def jaccard_similarity(
    features,
    k1: int = 30,
    k2: int = 6,
    min_similarity: float = 0.0,
    *,
    search: Search = "auto",
    probes: int = 64,
) -> sp.csr_array:
    """1 - Jaccard distance between all rows.

    Args:
        features: (N, D) rows of unit length; others are brought to it.
        k1: Neighbours searched, the row itself among them.
        k2: Neighbours averaged over, the row itself among them.
        min_similarity: Entries below it are left out, as are those of pairs without overlap.
        search: Engine of the neighbour search, see `search.py`.
        probes: See `nearest_neighbors`.

    Returns:
        (N, N) float32 CSR, symmetric, indices sorted, ones on the diagonal.

    Raises:
        UserError: Features with NaN or infinities.
        UsageError: `k1` or `k2` below 1, or an unknown search.
    """
    check_neighbor_counts(k1, k2)
    features = unit_rows(features)
    neighbors = nearest_neighbors(features, k1, search=search, probes=probes)
    return similarity_graph(encode(features, neighbors, k1, k2), min_similarity)


def encode(features: np.ndarray, neighbors: Neighbors, k1: int, k2: int) -> Encoding:
    """The k-reciprocal encoding V of unit rows, weighed by their similarities.

    Args:
        features: (N, D) float32 unit rows.
        neighbors: Lists of min(k1, N) neighbours.
        k1: See `jaccard_similarity`.
        k2: See `jaccard_similarity`.
    """

    def weigh(*rows):
        kernels.weigh_by_similarity(features, neighbors.indices, neighbors.similarities, *rows)

    return _with_columns(*encoding_rows(neighbors.indices, k1, k2, weigh))


def encoding_rows(
    lists: np.ndarray, k1: int, k2: int, weigh: Callable[..., None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k-reciprocal encoding, for clustering and for re-ranking (Zhong et al., 2017, sec. 3).

    Args:
        lists: (N, K) int32 neighbours of each row, itself first; -1 where fewer were found.
        k1: Two rows are reciprocal if each is among the other's first k1 + 1.
        k2: Rows averaged over, the row itself among them.
        weigh: Fills in the weights before averaging, from (first, last, ends, indices, values):
            rows `first` to `last` have the members `indices` up to their `ends`.

    Returns:
        CSR arrays of V: row starts, columns, float32 weights. Rows sum to one.
    """
    sets, sizes = _reciprocal_sets(lists, k1)
    half_sets, half_sizes = _reciprocal_sets(lists, round(k1 / 2))
    num_rows = len(lists)
    widest = min(num_rows, sets.shape[1] * (1 + half_sets.shape[1]))

    def encode_block(first, last, scratch):
        ends = np.empty(last - first, np.int64)
        indices = np.empty((last - first) * widest, np.int32)
        marks = scratch.seen, scratch.also_seen
        kernels.expand(sets, sizes, half_sets, half_sizes, first, last, *marks, ends, indices)
        indices = indices[: ends[-1]].copy()
        values = np.empty(len(indices), np.float32)
        weigh(first, last, ends, indices, values)
        return ends, indices, values

    row_starts, columns, weights = _join(map_blocks(encode_block, num_rows, BLOCK_ROWS))
    k2 = min(k2, lists.shape[1])
    widest = min(num_rows, k2 * int(np.diff(row_starts).max(initial=0)))

    def average_block(first, last, scratch):
        ends = np.empty(last - first, np.int64)
        indices = np.empty((last - first) * widest, np.int32)
        values = np.empty(len(indices), np.float32)
        kernels.average(
            lists,
            k2,
            row_starts,
            columns,
            weights,
            first,
            last,
            scratch.seen,
            scratch.sums,
            ends,
            indices,
            values,
        )
        return ends, indices[: ends[-1]].copy(), values[: ends[-1]].copy()

    return _join(map_blocks(average_block, num_rows, BLOCK_ROWS))


def similarity_graph(encoding: Encoding, min_similarity: float = 0.0) -> sp.csr_array:
    """The matrix that `jaccard_similarity` describes, from an encoding."""
    num_rows = encoding.num_rows
    bound = np.float32(min_similarity)

    def overlap_block(first, last, scratch):
        # A row meets fewer than `num_rows` others, so at least one row fits each time.
        indices = np.empty(max(num_rows, 2**18), np.int32)
        values = np.empty(len(indices), np.float32)
        pieces = []
        while first < last:
            ends = np.empty(last - first, np.int64)
            done = kernels.overlaps(
                *encoding.arrays,
                encoding.positions,
                bound,
                first,
                last,
                scratch.seen,
                scratch.sums,
                scratch.touched,
                ends,
                indices,
                values,
            )
            ends = ends[: done - first]
            pieces.append((ends, indices[: ends[-1]].copy(), values[: ends[-1]].copy()))
            first = done
        return pieces

    blocks = map_blocks(overlap_block, num_rows, BLOCK_ROWS)
    starts, indices, values = _join(piece for pieces in blocks for piece in pieces)
    full_starts = np.zeros(num_rows + 1, np.int64)
    full_indices = np.empty(2 * len(indices) + num_rows, np.int32)
    full_values = np.empty(len(full_indices), np.float32)
    kernels.mirror(starts, indices, values, full_starts, full_indices, full_values)
    if len(full_indices) <= np.iinfo(np.int32).max:
        full_starts = full_starts.astype(np.int32)  # SciPy would widen the indices to match.
    return sp.csr_array((full_values, full_indices, full_starts), shape=(num_rows, num_rows))


def _reciprocal_sets(indices: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """R(i, k) for every i: (N, width) int32 members, and (N,) int32 how many of them count."""
    width = min(k + 1, indices.shape[1])
    sets = np.empty((len(indices), width), np.int32)
    sizes = np.empty(len(indices), np.int32)

    def block(first, last, _):
        kernels.reciprocal(indices, width, sets, sizes, first, last)

    for _ in map_blocks(block, len(indices), BLOCK_ROWS):
        pass
    return sets, sizes


def _join(blocks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CSR arrays of blocks of rows, each (ends of its rows, indices, values)."""
    nothing = np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
    ends, indices, values = zip(*(list(blocks) or [nothing]), strict=True)
    offsets = np.cumsum([0] + [len(block) for block in indices])
    starts = [block + offset for block, offset in zip(ends, offsets[:-1], strict=True)]
    return (
        np.concatenate([np.zeros(1, np.int64), *starts]),
        np.concatenate(indices),
        np.concatenate(values),
    )


def _with_columns(row_starts: np.ndarray, columns: np.ndarray, weights: np.ndarray) -> Encoding:
    column_starts = np.zeros(len(row_starts), np.int64)
    rows = np.empty_like(columns)
    column_weights = np.empty_like(weights)
    positions = np.empty_like(columns)
    kernels.transpose(row_starts, columns, weights, column_starts, rows, column_weights, positions)
    return Encoding(row_starts, columns, weights, column_starts, rows, column_weights, positions)
