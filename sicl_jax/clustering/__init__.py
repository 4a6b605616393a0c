"""Pseudo-labels: nearest neighbours, Jaccard distance, DBSCAN, refinement, neighbour clusters.

Host functions, arrays in and arrays out; nothing is N x N.
"""

from sicl_jax.clustering.jaccard import jaccard_similarity
from sicl_jax.clustering.neighbor_clusters import cluster_prototypes, neighbor_clusters
from sicl_jax.clustering.pseudo_labels import Clustering, cluster
from sicl_jax.clustering.search import Neighbors, nearest_neighbors

__all__ = [
    "Clustering",
    "Neighbors",
    "cluster",
    "cluster_prototypes",
    "jaccard_similarity",
    "nearest_neighbors",
    "neighbor_clusters",
]
