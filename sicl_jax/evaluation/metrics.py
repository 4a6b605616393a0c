"""From rankings to the figures that are reported: CMC, mAP and mINP.

All figures are fractions of one. A query without a true match is skipped: it counts in none of
them, and the number of such queries is reported.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int32

from sicl_jax.errors import UserError
from sicl_jax.evaluation.ranking import Ranking

CMC_RANKS = 50
REPORTED_RANKS = (1, 5, 10, 20)
METRICS = (*(f"rank{k}" for k in REPORTED_RANKS), "mAP", "mINP")


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """The figures of one protocol.

    Attributes:
        cmc: (50,) share of queries with a true match among the first 1, 2, ... images.
        mAP: Mean average precision.
        mINP: Mean inverse negative penalty.
        queries: Number of queries counted.
        skipped: Number of queries without a true match, left out of all figures.
        draws: Number of galleries drawn, over which the figures are means; 1 if none was drawn.
        std: Standard deviation over the draws (of the draws themselves, not of their mean) of
            each figure, or None if none was drawn.
        interval: The bootstrap's lower and upper bound of each figure, or None if not asked for.
        rankings: What each query came to, for each draw.
        cameras: (Q,) of the queries, -1 unknown, or None where nobody told.
    """

    cmc: Float64[np.ndarray, "K"]
    mAP: float  # noqa: N815 - the field's spelling.
    mINP: float  # noqa: N815
    queries: int
    skipped: int
    draws: int = 1
    std: Mapping[str, float] | None = None
    interval: Mapping[str, tuple[float, float]] | None = None
    rankings: tuple[Ranking, ...] = dataclasses.field(default=(), repr=False)
    cameras: Int32[np.ndarray, "Q"] | None = dataclasses.field(default=None, repr=False)

    @property
    def rank1(self) -> float:
        """Share of queries whose nearest image is a true match."""
        return float(self.cmc[0])

    @property
    def rank5(self) -> float:
        """Share of queries with a true match among the first 5."""
        return float(self.cmc[4])

    @property
    def rank10(self) -> float:
        """Share of queries with a true match among the first 10."""
        return float(self.cmc[9])

    @property
    def rank20(self) -> float:
        """Share of queries with a true match among the first 20."""
        return float(self.cmc[19])

    def figures(self) -> dict[str, float]:
        """The reported figures by name (`METRICS`)."""
        return {name: getattr(self, name) for name in METRICS}

    def as_dict(self) -> dict:
        """Plain numbers for JSON: figures, counts, and `draws`, `std`, `interval` where made."""
        values = {**self.figures(), "queries": self.queries, "skipped": self.skipped}
        if self.std is not None:
            values |= {"draws": self.draws, "std": dict(self.std)}
        if self.interval is not None:
            values["interval"] = {name: list(bounds) for name, bounds in self.interval.items()}
        return values


def summarize(ranking: Ranking, cameras: Int32[np.ndarray, "Q"] | None = None) -> Result:
    """Mean figures of the queries that have a true match.

    Args:
        ranking: What each query came to.
        cameras: Of the queries, for `by_camera`.

    Raises:
        UserError: No query has one.
    """
    counted = ranking.first_match > 0
    queries = int(counted.sum())
    if not len(counted):
        raise UserError("there are no queries; check the split and its cameras and identities")
    if queries == 0:
        raise UserError(
            f"all {len(counted)} queries were skipped, as none has a true match left in the "
            "gallery; check that identities, cameras and clothes of query and gallery agree"
        )
    return Result(
        cmc=ranking.cmc(CMC_RANKS),
        mAP=float(ranking.average_precision[counted].mean()),
        mINP=float(ranking.inverse_penalty[counted].mean()),
        queries=queries,
        skipped=len(counted) - queries,
        rankings=(ranking,),
        cameras=cameras,
    )


def average(results: Sequence[Result]) -> Result:
    """Mean and standard deviation over the results of several drawn galleries."""
    figures = {name: [getattr(result, name) for result in results] for name in METRICS}
    return Result(
        cmc=np.mean([result.cmc for result in results], axis=0),
        mAP=float(np.mean(figures["mAP"])),
        mINP=float(np.mean(figures["mINP"])),
        queries=results[0].queries,
        skipped=results[0].skipped,
        draws=len(results),
        std={name: float(np.std(values)) for name, values in figures.items()},
        rankings=tuple(ranking for result in results for ranking in result.rankings),
        cameras=results[0].cameras,
    )


def trim(results: Sequence[Result]) -> list[Result]:
    """The results less the best and the worst one, by rank-1 and then mAP.

    Whole draws are dropped, so that all figures are of the same galleries. Needs three or more.
    """
    return sorted(results, key=lambda result: (result.rank1, result.mAP))[1:-1]


def by_camera(results: Mapping[str, Result]) -> dict[str, Result]:
    """The results, each followed by those of its queries of one camera alone, as `NAME/camera_3`.

    A camera none of whose queries has a true match, and queries of unknown cameras, are left out.
    """
    expanded = {}
    for name, result in results.items():
        expanded[name] = result
        cameras = np.array([], np.int32) if result.cameras is None else result.cameras
        for camera in np.unique(cameras[cameras >= 0]).tolist():
            rows = np.flatnonzero(cameras == camera)
            parts = [ranking.take(rows) for ranking in result.rankings]
            if all((part.first_match > 0).any() for part in parts):
                of_draws = [summarize(part, cameras[rows]) for part in parts]
                expanded[f"{name}/camera_{camera}"] = (
                    of_draws[0] if result.std is None else average(of_draws)
                )
    return expanded
