"""Ranking of a DeepChange-sized test against a plain NumPy loop over queries, in one run.

Prints one JSON line. The loop is what re-identification code commonly does: for each query, argsort
its row of distances, drop, cumulate. It is given a sample of the queries, spread evenly over the
run, and its time is scaled. Three ratios are printed, each the loop's time over this package's:

- `ratio_ranking`: ranking alone, both fed the same distances;
- `ratio_total`: with distances, the loop computing each query's own as it goes;
- `ratio_total_shared_distances`: with distances, the loop being given this package's blocks of
  them, so that most of both times is one matrix product.

    python benchmarks/evaluate.py [--queries 17527] [--gallery 62956] [--dim 2048]
"""

import argparse
import json
import os
import resource
import time

import numpy as np

from sicl_jax.evaluation import FeatureSet, rules
from sicl_jax.evaluation.distances import euclidean_rows
from sicl_jax.evaluation.metrics import CMC_RANKS, summarize
from sicl_jax.evaluation.ranking import Ranking, rank

IDENTITIES = 521
TRACKLETS_PER_IDENTITY = 20


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--queries", type=int, default=17527)
    parser.add_argument("--gallery", type=int, default=62956)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--sample", type=int, default=512, help="queries given to the loop")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((IDENTITIES, arguments.dim), dtype=np.float32)
    gallery = make_set(rng, centres, arguments.gallery)
    query = make_set(rng, centres, arguments.queries)
    compile_ahead(query, gallery)

    loop = LoopBetweenBlocks(query, gallery, sample=min(arguments.sample, len(query)))
    start = time.perf_counter()
    ranking = rank(query, gallery, {"": rules.SAME_TRACKLET}, distances=loop)[""]
    total = time.perf_counter() - start - loop.seconds
    print(json.dumps(report(query, gallery, ranking, loop, total)))


def report(query, gallery, ranking, loop, total):
    scale = len(query) / len(loop.done)
    result = summarize(ranking)
    ranking_seconds = total - loop.block_seconds
    loop_ranking, loop_distances = loop.ranking_seconds * scale, loop.distance_seconds * scale
    return {
        "benchmark": "evaluate",
        "queries": len(query),
        "gallery": len(gallery),
        "dim": query.features.shape[1],
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "distances_seconds": round(loop.block_seconds, 2),
        "ranking_seconds": round(ranking_seconds, 2),
        "total_seconds": round(total, 2),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
        "loop_sample": len(loop.done),
        "loop_ranking_seconds_scaled": round(loop_ranking, 2),
        "loop_distances_seconds_scaled": round(loop_distances, 2),
        "ratio_ranking": round(loop_ranking / ranking_seconds, 1),
        "ratio_total": round((loop_ranking + loop_distances) / total, 1),
        "ratio_total_shared_distances": round((loop_ranking + loop.block_seconds) / total, 1),
        "agree_on_sample": agree(ranking, loop),
        "rank1": round(result.rank1, 4),
        "mAP": round(result.mAP, 4),
    }


def agree(ranking: Ranking, loop):
    """Whether the loop's figures of the sampled queries are those of the package."""
    rows, hits, precisions = (np.array(column) for column in zip(*loop.done, strict=True))
    first = ranking.first_match[rows]
    ours = np.where(first > 0, np.maximum(CMC_RANKS + 1 - first, 0), 0)
    return bool(
        np.array_equal(hits, ours) and np.allclose(precisions, ranking.average_precision[rows])
    )


def make_set(rng, centres, count):
    """Unit rows around a centre for each identity, made in place to keep the peak low."""
    identities = rng.integers(len(centres), size=count)
    features = rng.standard_normal((count, centres.shape[1]), dtype=np.float32)
    for start in range(0, count, 4096):
        rows = features[start : start + 4096]
        rows += 0.15 * centres[identities[start : start + 4096]]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    tracklets = TRACKLETS_PER_IDENTITY * identities + rng.integers(
        TRACKLETS_PER_IDENTITY, size=count
    )
    return FeatureSet(features, {"identity": identities, "tracklet": tracklets})


def compile_ahead(query, gallery):
    few = np.arange(4)
    rank(query.take(few), gallery.take(few), {"": rules.NOTHING})


class LoopBetweenBlocks:
    """Blocks of distances for the package, and between them the loop's turn on the same rows.

    Taking turns, both meet the same load of the machine.
    """

    def __init__(self, query, gallery, sample):
        self.query, self.gallery = query, gallery
        self.block_seconds = 0.0
        self.ranking_seconds = 0.0
        self.distance_seconds = 0.0
        self.checking_seconds = 0.0
        self.done = []
        self._sampled = np.linspace(0, len(query) - 1, sample).astype(int)
        self._rows = euclidean_rows(query.features, gallery.features)
        self._gallery_squares = np.einsum("nd,nd->n", gallery.features, gallery.features)

    @property
    def seconds(self):
        """Time of the loop's turns that is not the package's."""
        return self.checking_seconds + self.ranking_seconds + self.distance_seconds

    def __call__(self, start, stop):
        """Distances of a range of queries."""
        begin = time.perf_counter()
        block = self._rows(start, stop)
        self.block_seconds += time.perf_counter() - begin
        for q in self._sampled[(start <= self._sampled) & (self._sampled < stop)]:
            begin = time.perf_counter()
            self._distances(q)
            middle = time.perf_counter()
            self._rank(q, block[q - start])
            end = time.perf_counter()
            self.ranking_seconds += end - middle
            self.distance_seconds += middle - begin
            # The usual argsort leaves ties in any order; a stable one must agree to the last digit.
            self.done.append((q, *self._rank(q, block[q - start], kind="stable")))
            self.checking_seconds += time.perf_counter() - end
        return block

    def _distances(self, q):
        features = self.query.features[q]
        return self._gallery_squares - 2 * (self.gallery.features @ features) + features @ features

    def _rank(self, q, row, kind=None):
        order = np.argsort(row, kind=kind)
        query, gallery = self.query.labels, self.gallery.labels
        same = gallery["identity"][order] == query["identity"][q]
        kept = ~(same & (gallery["tracklet"][order] == query["tracklet"][q]))
        matches = same[kept]
        if not matches.any():
            return 0, 0.0
        found = matches.cumsum()
        curve = np.minimum(found[:CMC_RANKS], 1)
        precision = (found / np.arange(1, len(found) + 1) * matches).sum() / matches.sum()
        return curve.sum(), precision


if __name__ == "__main__":
    main()
