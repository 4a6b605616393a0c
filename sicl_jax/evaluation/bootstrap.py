"""Confidence intervals of a result, by resampling its queries (Efron's percentile bootstrap).

They say how far the figures would move with other queries of the same kind against the same
gallery; not how far they would with another gallery or another run of training.
"""

import dataclasses

import numpy as np
from jaxtyping import Float64

from sicl_jax.errors import UsageError
from sicl_jax.evaluation.metrics import METRICS, REPORTED_RANKS, Result
from sicl_jax.evaluation.ranking import Ranking

CHUNK_ELEMENTS = 2**22


def with_intervals(result: Result, samples: int, *, level: float = 0.95, seed: int = 0) -> Result:
    """The result with a confidence interval of each figure.

    Args:
        result: Of `summarize` or `average`.
        samples: Number of times that the queries are drawn anew, with replacement.
        level: Share of the samples within the interval.
        seed: Decides the samples.

    Raises:
        UsageError: Fewer than 2 samples, or a level that is not between 0 and 1.
    """
    if samples < 2 or not 0 < level < 1:
        raise UsageError(
            f"bootstrap of {samples} samples at level {level}: give 2 samples or more "
            "and a level between 0 and 1"
        )
    means = _resampled_means(_values(result), samples, np.random.default_rng(seed))
    outside = (1 - level) / 2
    bounds = np.quantile(means, [outside, 1 - outside], axis=0)
    interval = {
        name: (float(low), float(high)) for name, low, high in zip(METRICS, *bounds, strict=True)
    }
    return dataclasses.replace(result, interval=interval)


def _values(result: Result) -> Float64[np.ndarray, "Q M"]:
    """Each counted query's share in each figure, averaged over the draws that count it."""
    values = np.stack([_ranking_values(ranking) for ranking in result.rankings])
    times = np.stack([ranking.first_match > 0 for ranking in result.rankings]).sum(axis=0)
    counted = times > 0
    return values.sum(axis=0)[counted] / times[counted, None]


def _ranking_values(ranking: Ranking) -> Float64[np.ndarray, "Q M"]:
    """Zeros for a skipped query."""
    hits = [(ranking.first_match > 0) & (ranking.first_match <= k) for k in REPORTED_RANKS]
    columns = [*hits, ranking.average_precision, ranking.inverse_penalty]
    return np.stack(columns, axis=1, dtype=np.float64)


def _resampled_means(
    values: Float64[np.ndarray, "Q M"], samples: int, rng: np.random.Generator
) -> Float64[np.ndarray, "S M"]:
    """Means over as many queries drawn with replacement, for each sample."""
    count = len(values)
    per_chunk = max(1, CHUNK_ELEMENTS // count)
    means = []
    for start in range(0, samples, per_chunk):
        size = min(per_chunk, samples - start)
        drawn = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        means.append(times @ values / count)
    return np.concatenate(means)
