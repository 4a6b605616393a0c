"""The formulas as they stand, dense and slow, written apart from the package."""

import numpy as np


def neighbor_lists(features, k):
    """(N, min(k, N)) indices: the row itself, then falling similarity, then rising index."""
    products = (features.astype(np.float64) @ features.T.astype(np.float64)).astype(np.float32)
    lists = []
    for i, row in enumerate(products):
        others = [j for j in np.lexsort((np.arange(len(row)), -row)) if j != i]
        lists.append([i, *others][:k])
    return np.array(lists)


def jaccard_distance(features, lists, k1, k2):
    """(N, N) float64 distances of the k-reciprocal encoding."""
    n = len(features)

    def reciprocal(i, k):
        return {j for j in lists[i][: k + 1] if i in lists[j][: k + 1]}

    h = round(k1 / 2)
    encoding = np.zeros((n, n))
    for i in range(n):
        own = reciprocal(i, k1)
        expanded = set(own)
        for j in own:
            half = reciprocal(j, h)
            if len(half & own) > 2 / 3 * len(half):
                expanded |= half
        members = sorted(expanded)
        weights = np.exp(-(2 - 2 * features[members].astype(np.float64) @ features[i]))
        encoding[i, members] = weights / weights.sum()
    encoding = np.array([encoding[lists[i][:k2]].mean(axis=0) for i in range(n)])
    overlap = np.minimum(encoding[:, None], encoding[None]).sum(axis=2)
    return np.maximum(1 - overlap / (2 - overlap), 0)


def refinement_scores(distance, labels, tight_labels):
    """(N,) J of each sample's tight cluster, (N,) I of its cluster."""
    n = len(labels)
    outside = np.zeros(n)
    for i in range(n):
        differing = (labels == labels[i]) != (tight_labels == tight_labels[i])
        if differing.any():
            outside[i] = distance[i, differing].sum() / differing.sum() ** 2
    tight = np.array([outside[tight_labels == t].sum() for t in tight_labels])
    spread = np.array([distance[np.ix_(labels == c, labels == c)].mean() for c in labels])
    return tight, spread


def own_clusters(labels):
    """Unclustered samples numbered after the clusters."""
    labels = np.array(labels)
    alone = labels < 0
    labels[alone] = labels.max(initial=-1) + 1 + np.arange(alone.sum())
    return labels


def same_partition(a, b):
    """Whether two labellings group the samples alike."""
    pairs = len(set(zip(np.asarray(a).tolist(), np.asarray(b).tolist(), strict=True)))
    return pairs == len(np.unique(a)) == len(np.unique(b))
