"""Nearest neighbours by cosine similarity: one function, three engines.

- `faiss`: exact, a blocked matrix product on the CPU, or on the GPU where faiss has one.
- `jax`: exact, a blocked matrix product and top-k on JAX's default device.
- `ivf`: approximate, inverted lists on the CPU, for a million rows and more.
"""

import functools
from typing import Literal, NamedTuple

import numpy as np

from sicl_jax.clustering import kernels
from sicl_jax.clustering.blocks import map_blocks
from sicl_jax.clustering.inverted_lists import inverted_list_neighbors
from sicl_jax.errors import UsageError, UserError

Search = Literal["auto", "faiss", "jax", "ivf"]
SEARCHES = ("auto", "faiss", "jax", "ivf")

APPROXIMATE_FROM = 1_000_000  # Rows; an exact search costs 2 N^2 D operations.
UNIT_TOLERANCE = (
    1e-3  # Of the squared norm: float32 and stored bfloat16-free rows stay well within.
)
BLOCK_ELEMENTS = 2**27  # Similarities in memory at once in the JAX search: 512 MB.


class Neighbors(NamedTuple):
    """Neighbour lists, nearest first, the row itself always at the front.

    Attributes:
        indices: (N, k) int32; -1 at the end of a list where fewer were found.
        similarities: (N, k) float32 cosine similarities.
    """

    indices: np.ndarray
    similarities: np.ndarray


def unit_rows(features) -> np.ndarray:
    """Checks features and returns them as float32 rows of length one (or zero).

    Rows that are of unit length already are not copied.

    Args:
        features: (N, D) real numbers, NumPy or JAX.

    Raises:
        UserError: Not a matrix, empty, or a NaN or infinity; the message names the row.
    """
    features = np.ascontiguousarray(features, dtype=np.float32)
    if features.ndim != 2 or features.size == 0:
        raise UserError(f"features: shape {features.shape}, expected (rows, dimensions), not empty")
    squares = np.einsum("nd,nd->n", features, features)
    if not np.isfinite(squares).all():
        row = int(np.argmin(np.isfinite(squares)))
        raise UserError(
            f"features: row {row} holds NaN, infinite or huge values; "
            "training has diverged or the file is damaged"
        )
    if np.any((np.abs(squares - 1) > UNIT_TOLERANCE) & (squares > 0)):
        features = features / np.sqrt(np.where(squares > 0, squares, 1))[:, None]
    return features


def choose_search(search: Search, num_rows: int) -> str:
    """The engine that `search` stands for: by size and device where it is `auto`.

    Raises:
        UsageError: An unknown name.
    """
    if search not in SEARCHES:
        raise UsageError(f"search: {search!r} is not one of {', '.join(SEARCHES)}")
    if search != "auto":
        return search
    if num_rows >= APPROXIMATE_FROM:
        return "ivf"
    import jax

    return "faiss" if jax.default_backend() == "cpu" else "jax"


def nearest_neighbors(
    features: np.ndarray, k: int, *, search: Search = "auto", probes: int = 64
) -> Neighbors:
    """The `k` rows most similar to each row, itself among them and first.

    Among equal similarities the smaller index comes first; where equals compete for the end of a
    list, the exact CPU engines keep the smaller index too (faiss up to k = 99). Rows of zeros have
    no direction: they find only themselves and nobody finds them.

    Args:
        features: (N, D) float32 rows of length one or zero.
        k: Length of the lists; cut to N.
        search: The engine.
        probes: Inverted lists read per row by `ivf`; more is slower and finds more.

    Raises:
        UsageError: An unknown engine, or `k` or `probes` below 1.
    """
    if k < 1 or probes < 1:
        raise UsageError(f"k = {k}, probes = {probes}: both have to be at least 1")
    num_rows = len(features)
    k = min(k, num_rows)
    present = np.flatnonzero(features.any(axis=1))
    base = features if len(present) == num_rows else features[present]
    indices = np.full((num_rows, k), -1, np.int32)
    similarities = np.full((num_rows, k), -1, np.float32)
    if len(present):
        engine = choose_search(search, num_rows)
        found, values = _ENGINES[engine](base, min(k, len(present)), probes)
        found = np.where(found >= 0, present[found], -1)
        indices[present, : found.shape[1]] = found
        similarities[present, : found.shape[1]] = values

    def order(first, last, _):
        kernels.put_self_first(indices, similarities, first, last)

    for _ in map_blocks(order, num_rows, 4096):
        pass
    return Neighbors(indices, similarities)


def top_products(matrix: np.ndarray, k: int, *, search: Search = "auto"):
    """The `k` largest inner products of each row with all rows, itself included.

    Args:
        matrix: (N, D) float32, rows of any length. JAX compiles one program for a range of N.
        k: At most N.
        search: The engine; `ivf` counts as `faiss` here.

    Returns:
        (N, k) indices and (N, k) float32 products, largest first.
    """
    if choose_search(search, len(matrix)) == "jax":
        return _jax_top_k(_padded(matrix), len(matrix), k)
    import faiss

    products, indices = faiss.knn(matrix, matrix, k, metric=faiss.METRIC_INNER_PRODUCT)
    return indices, products


def _faiss_exact(base: np.ndarray, k: int, probes: int):
    del probes
    import faiss

    # Squared distances rather than products, though the order is the same for unit rows: among
    # equals faiss then keeps the smallest indices. 2 - 2 s = d.
    if hasattr(faiss, "get_num_gpus") and faiss.get_num_gpus():
        distances, indices = faiss.knn_gpu(faiss.StandardGpuResources(), base, base, k)
    else:
        distances, indices = faiss.knn(base, base, k)
    distances *= -0.5
    distances += 1
    return indices, distances


def _jax_exact(base: np.ndarray, k: int, probes: int):
    del probes
    return _jax_top_k(base, len(base), k)


def _jax_top_k(rows: np.ndarray, count: int, k: int):
    """Top `k` products among the first `count` rows; the rest is padding."""
    import jax

    size = len(rows)
    block = min(size, max(1, BLOCK_ELEMENTS // size))
    rows = jax.device_put(rows)
    indices = np.empty((size, k), np.int32)
    products = np.empty((size, k), np.float32)
    for first in range(0, count, block):
        first = min(first, size - block)  # The last block overlaps: one shape, one program.
        part = slice(first, first + block)
        products[part], indices[part] = _jax_block(block, k)(rows, first, count)
    return indices[:count], products[:count]


@functools.cache
def _jax_block(block: int, k: int):
    import jax
    import jax.numpy as jnp

    @jax.jit
    def top_k(rows, first, count):
        queries = jax.lax.dynamic_slice_in_dim(rows, first, block)
        products = jnp.matmul(queries, rows.T, precision=jax.lax.Precision.HIGHEST)
        products = jnp.where(jnp.arange(len(rows)) < count, products, -jnp.inf)
        return jax.lax.top_k(products, k)

    return top_k


def _padded(matrix: np.ndarray) -> np.ndarray:
    """Zero rows appended up to 2^n or 1.5 * 2^n: few sizes, so few programs to compile."""
    size = 64
    while size < len(matrix):
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return np.pad(matrix, ((0, size - len(matrix)), (0, 0)))


_ENGINES = {"faiss": _faiss_exact, "jax": _jax_exact, "ivf": inverted_list_neighbors}
