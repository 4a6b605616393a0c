"""Clustering at size: the neighbour search against the rest, and sparse against dense.

    python benchmarks/clustering.py --n 17896 --d 2048
    python benchmarks/clustering.py --n 8000 --d 2048 --dense
    python benchmarks/clustering.py --n 1000000 --d 256 --search ivf
    python benchmarks/clustering.py --plot LINES.jsonl PICTURE.png

The first three print one JSON line each; the last draws collected lines,
log-log (needs matplotlib).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from sicl_jax.clustering import cluster, nearest_neighbors
from sicl_jax.clustering.search import choose_search
from sicl_jax.data.files import usable_cores

CLUSTER_SIZE = 60
INTRINSIC = 64  # Dimensions in which features vary; embeddings fill few of theirs.
PARAMETERS = {"k1": 30, "k2": 6, "eps": 0.6, "eps_gap": 0.02, "min_samples": 4}


def noisy_clusters(n: int, d: int, noise: float, seed: int = 0) -> np.ndarray:
    """(n, d) float32 unit rows in clusters of about 60, some rows much noisier than others."""
    random = np.random.default_rng(seed)
    intrinsic = min(INTRINSIC, d)
    centers = random.standard_normal((max(1, n // CLUSTER_SIZE), intrinsic), dtype=np.float32)
    basis = np.linalg.qr(random.standard_normal((d, intrinsic)))[0].T.astype(np.float32)
    features = np.empty((n, d), np.float32)
    for first in range(0, n, 8192):
        part = features[first : first + 8192]
        rows = centers[random.integers(len(centers), size=len(part))]
        levels = noise * random.lognormal(sigma=0.4, size=(len(part), 1)).astype(np.float32)
        rows = rows + levels * random.standard_normal(rows.shape, dtype=np.float32)
        part[:] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)) @ basis
    return features


class PeakMemory:
    """Bytes resident at the start of the block, and the most while inside it (Linux)."""

    def __enter__(self):
        Path("/proc/self/clear_refs").write_text("5")  # Sets the high-water mark back.
        self.start = self._status("VmRSS")
        return self

    def __exit__(self, *_):
        self.peak = self._status("VmHWM")

    @staticmethod
    def _status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def dense_labels(features: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Final labels by the formulas as they stand, N x N, and the seconds of each part."""
    from sklearn.cluster import DBSCAN

    k1, k2, eps = PARAMETERS["k1"], PARAMETERS["k2"], PARAMETERS["eps"]
    n = len(features)
    marks = [time.perf_counter()]
    squared = 2 - 2 * features @ features.T
    np.fill_diagonal(squared, 0)
    nearest = np.argpartition(squared, k1 - 1, axis=1)[:, :k1]
    order = np.take_along_axis(squared, nearest, 1).argsort(axis=1, kind="stable")
    ranks = np.take_along_axis(nearest, order, 1)
    marks.append(time.perf_counter())

    def reciprocal(k):
        found = np.zeros((n, n), bool)
        np.put_along_axis(found, ranks[:, : k + 1], True, axis=1)
        found &= found.T
        return found, [np.flatnonzero(row) for row in found]

    (in_full, full), (_, half) = reciprocal(k1), reciprocal(round(k1 / 2))
    encoding = np.zeros((n, n), np.float32)
    for i in range(n):
        expanded = full[i]
        for j in full[i]:
            if 3 * in_full[i, half[j]].sum() > 2 * len(half[j]):
                expanded = np.append(expanded, half[j])
        expanded = np.unique(expanded)
        weights = np.exp(-squared[i, expanded])
        encoding[i, expanded] = weights / weights.sum()
    encoding = np.stack([encoding[ranks[i, :k2]].mean(0) for i in range(n)])
    columns = [np.flatnonzero(column) for column in encoding.T]
    distance = np.empty((n, n), np.float32)
    for i in range(n):
        overlap = np.zeros(n, np.float32)
        for c in np.flatnonzero(encoding[i]):
            overlap[columns[c]] += np.minimum(encoding[i, c], encoding[columns[c], c])
        distance[i] = np.maximum(1 - overlap / (2 - overlap), 0)
    marks.append(time.perf_counter())

    def clustered(radius):
        labels = DBSCAN(
            eps=radius, min_samples=PARAMETERS["min_samples"], metric="precomputed"
        ).fit_predict(distance)
        alone = labels < 0
        labels[alone] = labels.max() + 1 + np.arange(alone.sum())
        return labels

    labels, tight = clustered(eps), clustered(eps - PARAMETERS["eps_gap"])
    marks.append(time.perf_counter())

    same, same_tight = labels[:, None] == labels, tight[:, None] == tight
    differing = same != same_tight
    spread = np.array(
        [distance[np.ix_(labels == c, labels == c)].mean() for c in np.unique(labels)]
    )
    count = differing.sum(1)
    outside = (distance * differing).sum(1) / np.maximum(count, 1) ** 2
    score = np.bincount(tight, weights=outside)
    expelled = score[tight] > spread[labels] + 1e-6 * (count == 0)
    labels[expelled] = labels.max() + 1 + np.arange(expelled.sum())
    marks.append(time.perf_counter())
    parts = ("search", "jaccard", "dbscan", "refinement")
    return labels, dict(zip(parts, np.diff(marks).round(3).tolist(), strict=True))


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = len(np.unique(np.stack([a, b]), axis=1).T)
    return pairs == len(np.unique(a)) == len(np.unique(b))


def recall(features: np.ndarray, found: np.ndarray, rows: int = 1000) -> float:
    """Share of the true neighbours, the row itself not counted, of a sample of rows."""
    import faiss

    sample = np.random.default_rng(1).choice(len(features), min(rows, len(features)), replace=False)
    _, exact = faiss.knn(features[sample], features, found.shape[1])
    hits = [len(np.intersect1d(a, b)) - 1 for a, b in zip(exact, found[sample], strict=True)]
    return float(np.mean(hits) / (found.shape[1] - 1))


def measure(arguments: argparse.Namespace) -> dict:
    cluster(noisy_clusters(200, 8, 1.0), **PARAMETERS)  # Loads libraries and compiled kernels.
    features = noisy_clusters(arguments.n, arguments.d, arguments.noise)
    options = {"search": arguments.search, "probes": arguments.probes}
    with PeakMemory() as memory:
        started = time.perf_counter()
        neighbors = nearest_neighbors(features, PARAMETERS["k1"], **options)
        search_seconds = time.perf_counter() - started
        result = cluster(features, **PARAMETERS, neighbors=neighbors)
    line = {
        "benchmark": "clustering",
        "n": arguments.n,
        "d": arguments.d,
        "search": choose_search(arguments.search, arguments.n),
        "noise": arguments.noise,
        "cores": usable_cores(),
        "search_seconds": round(search_seconds, 3),
        "rest_seconds": round(result.rest_seconds, 3),
        "rest_over_search": round(result.rest_seconds / search_seconds, 4),
        "peak_bytes_process": memory.peak,
        "peak_bytes_beyond_features": memory.peak - memory.start,
        "clusters": int((result.counts > 1).sum()),
        "unclustered": round(float((result.dbscan_labels < 0).mean()), 4),
        "unclustered_refined": round(result.num_unclustered / arguments.n, 4),
    }
    if line["search"] == "ivf":
        line["probes"] = arguments.probes
        line["recall"] = round(recall(features, neighbors.indices), 4)
    if arguments.dense:
        sparse_seconds = search_seconds + result.rest_seconds
        with PeakMemory() as memory:
            labels, parts = dense_labels(features)
        line["dense_seconds"] = parts
        line["dense_peak_bytes_beyond_features"] = memory.peak - memory.start
        line["dense_over_sparse"] = round(sum(parts.values()) / sparse_seconds, 2)
        rest = sum(parts.values()) - parts["search"]
        line["dense_over_sparse_without_search"] = round(rest / result.rest_seconds, 2)
        line["equal_partitions"] = same_partition(labels, result.labels)
    return line


def plot(lines_path: Path, picture: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = [json.loads(line) for line in lines_path.read_text().splitlines()]
    exact = sorted((x for x in lines if x["search"] != "ivf"), key=lambda x: x["n"])
    dense = [x for x in exact if "dense_seconds" in x]
    d = exact[0]["d"]
    figure, (seconds, memory) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    sizes, dense_sizes = [x["n"] for x in exact], [x["n"] for x in dense]
    search, sparse, plain = "tab:blue", "tab:orange", "tab:green"
    seconds.plot(sizes, [x["search_seconds"] for x in exact], "o-", c=search, label="exact search")
    seconds.plot(
        sizes, [x["rest_seconds"] for x in exact], "s-", c=sparse, label="the rest, sparse"
    )
    rest = [sum(x["dense_seconds"].values()) - x["dense_seconds"]["search"] for x in dense]
    seconds.plot(dense_sizes, rest, "^--", c=plain, label="the rest, dense")
    peaks = [x["peak_bytes_beyond_features"] / 1e9 for x in exact]
    memory.plot(sizes, peaks, "s-", c=sparse, label="sparse")
    peaks = [x["dense_peak_bytes_beyond_features"] / 1e9 for x in dense]
    memory.plot(dense_sizes, peaks, "^--", c=plain, label="dense")
    memory.plot(sizes, [4 * x["n"] * x["d"] / 1e9 for x in exact], "k:", label="the features")
    for x in (x for x in lines if x["search"] == "ivf"):
        n, name = x["n"], f"IVF, D = {x['d']}"
        hollow = {"mfc": "none", "ls": "none"}
        seconds.plot(n, x["search_seconds"], "o", c=search, label=f"search, {name}", **hollow)
        seconds.plot(n, x["rest_seconds"], "s", c=sparse, label=f"the rest, {name}", **hollow)
        peak = x["peak_bytes_beyond_features"] / 1e9
        memory.plot(n, peak, "s", c=sparse, label=f"sparse, {name}", **hollow)
    for axes, name in ((seconds, "seconds"), (memory, "GB beyond the features")):
        axes.set(xscale="log", yscale="log", xlabel="rows N", ylabel=name)
        axes.grid(which="major", alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(f"Clustering, D = {d}, {exact[0]['cores']} cores")
    temporary = picture.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=110)
    temporary.replace(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=17_896, help="rows")
    parser.add_argument("--d", type=int, default=2048, help="dimensions")
    parser.add_argument(
        "--search", "--backend", choices=["auto", "faiss", "jax", "ivf"], default="auto"
    )
    parser.add_argument("--probes", type=int, default=64, help="inverted lists read by ivf")
    parser.add_argument("--noise", type=float, default=1.3, help="median noise over spread")
    parser.add_argument("--dense", action="store_true", help="compare with dense N x N")
    parser.add_argument("--plot", nargs=2, type=Path, metavar=("LINES", "PICTURE"))
    arguments = parser.parse_args()
    if arguments.plot:
        plot(*arguments.plot)
    else:
        print(json.dumps(measure(arguments)))


if __name__ == "__main__":
    main()
