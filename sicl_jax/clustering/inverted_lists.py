"""Approximate neighbours from inverted lists, for a million rows and more.

k-means puts the rows into lists, and each row is compared with the rows of the `probes` lists
whose centres are nearest to it, as in faiss' IndexIVFFlat. There every row reads its lists on its
own; here all queries are known beforehand, so all rows that read a list meet it in one matrix
product, which is several times faster (docs/clustering.md).
"""

import numpy as np
from threadpoolctl import threadpool_limits

from sicl_jax.clustering import kernels
from sicl_jax.clustering.blocks import map_blocks

POINTS_PER_CENTER = 64  # Sampled for k-means.
READERS = 512  # Rows that read a list together, on average: enough for a good matrix product.


def inverted_list_neighbors(base: np.ndarray, k: int, probes: int):
    """Approximately the `k` most similar rows of each row, itself among them.

    Args:
        base: (N, D) float32 unit rows.
        k: Length of the lists, at most N.
        probes: Lists read per row.

    Returns:
        (N, k) int32 indices, -1 where fewer were met, and (N, k) float32 products, largest first.
    """
    num_rows = len(base)
    num_lists = max(1, min(int(4 * np.sqrt(num_rows)), num_rows // POINTS_PER_CENTER))
    probed = _nearest_centers(base, num_lists, min(probes, num_lists))
    order = np.argsort(probed[:, 0], kind="stable").astype(np.int32)
    starts = np.searchsorted(probed[order, 0], np.arange(num_lists + 1))
    members = base[order]
    indices = np.full((num_rows, k), -1, np.int32)
    products = np.full((num_rows, k), -np.inf, np.float32)

    def search_block(first, last, _):
        lists = probed[first:last].ravel()
        readers_by_list = np.argsort(lists, kind="stable")
        bounds = np.searchsorted(lists[readers_by_list], np.arange(num_lists + 1))
        readers_by_list = (first + readers_by_list // probed.shape[1]).astype(np.int32)
        for c in range(num_lists):
            readers = readers_by_list[bounds[c] : bounds[c + 1]]
            inside = slice(starts[c], starts[c + 1])
            if len(readers):
                block = base[readers] @ members[inside].T
                kernels.merge_top(block, readers, order[inside], indices, products)

    block_rows = READERS * num_lists // probed.shape[1]
    # The blocks are the threads; threads within each product would only get in their way.
    with threadpool_limits(1, user_api="blas"):
        for _ in map_blocks(search_block, num_rows, block_rows):
            pass
    return indices, products


def _nearest_centers(base: np.ndarray, num_lists: int, probes: int) -> np.ndarray:
    """(N, probes) int32: the centres nearest to each row, nearest first."""
    import faiss

    means = faiss.Kmeans(
        base.shape[1],
        num_lists,
        niter=10,
        spherical=True,
        max_points_per_centroid=POINTS_PER_CENTER,
        min_points_per_centroid=1,
    )
    means.train(base)
    probed = np.empty((len(base), probes), np.int32)
    for first in range(0, len(base), 2**16):
        part = slice(first, first + 2**16)
        _, probed[part] = faiss.knn(
            base[part], means.centroids, probes, metric=faiss.METRIC_INNER_PRODUCT
        )
    return probed
