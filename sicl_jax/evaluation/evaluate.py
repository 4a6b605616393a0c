"""Run a data set's protocols on the features of its splits."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from sicl_jax.errors import UsageError, UserError
from sicl_jax.evaluation import metrics
from sicl_jax.evaluation.bootstrap import with_intervals
from sicl_jax.evaluation.features import UNKNOWN, FeatureSet
from sicl_jax.evaluation.metrics import Result
from sicl_jax.evaluation.progress import MakeBar, silent
from sicl_jax.evaluation.protocols import Protocol, Selection, protocols
from sicl_jax.evaluation.ranking import Ranking, rank
from sicl_jax.evaluation.reranking import Reranking, reranked_rows

logger = logging.getLogger(__name__)

DRAWS = 10
MIN_DRAWS = 3


def evaluate_dataset(
    dataset_name: str,
    splits: Mapping[str, FeatureSet],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    only: Collection[str] | None = None,
    changing_identities: Collection[int] | None = None,
    reranking: Reranking | None = None,
    bootstrap: int = 0,
    progress: MakeBar = silent,
) -> dict[str, Result]:
    """Test features under the protocols of a data set.

    Args:
        dataset_name: as in `prcc` or `synthetic_people/demo`.
        splits: features by the split's name; a protocol whose splits are not given is left out.
        seed: decides the single-shot galleries and the bootstrap's samples.
        draws: number of single-shot galleries, 3 or more as the trimmed mean drops two.
        only: names of the protocols to run, all of them if None.
        changing_identities: the identities that change clothes, for protocols restricted to
            them; if None, those with more than one outfit in query and gallery together.
        reranking: parameters of k-reciprocal re-ranking, or None for none.
        bootstrap: number of the bootstrap's samples, 0 for no confidence intervals.
        progress: makes a progress bar of a number of steps and a description.

    Returns:
        Results by the protocol's name, the primary protocol first.

    Raises:
        UsageError: an unknown data set or protocol, a split that is missing, or too few draws.
        UserError: labels that a protocol needs are unknown, or no query has a true match.
    """
    if draws < MIN_DRAWS:
        raise UsageError(f"draws = {draws}: give {MIN_DRAWS} or more")
    chosen = _choose(dataset_name, splits, only)
    results = {}
    # Protocols with the same queries and gallery share their distances.
    for selection in dict.fromkeys(protocol.selection for protocol in chosen):
        query, gallery = select_sides(selection, splits, changing_identities)
        group = [
            protocol
            for protocol in chosen
            if protocol.selection == selection
            and _labels_known(dataset_name, protocol, query, gallery)
        ]
        if not group:
            continue
        galleries = (
            _single_shot_galleries(gallery, seed, draws) if selection.single_shot else [gallery]
        )
        title = f"{dataset_name}, {group[0].name}"
        rankings = _rank_draws(query, galleries, group, reranking, progress, title)
        for protocol in group:
            of_draws = [ranking[protocol.name] for ranking in rankings]
            result = _result(dataset_name, protocol, of_draws)
            if result is not None:
                results[protocol.name] = result
    if not results:
        raise UserError(
            f"{dataset_name}: no protocol could be run, as no query has a true match under any"
        )
    if bootstrap:
        results = {
            name: with_intervals(result, bootstrap, seed=seed) for name, result in results.items()
        }
    return {
        protocol.name: results[protocol.name] for protocol in chosen if protocol.name in results
    }


def _choose(
    dataset_name: str, splits: Mapping[str, FeatureSet], only: Collection[str] | None
) -> list[Protocol]:
    """Protocols that are asked for and whose splits are there, in the table's order."""
    table = protocols(dataset_name)
    names = [protocol.name for protocol in table]
    unknown = sorted(set(only or ()) - set(names))
    if unknown:
        raise UsageError(
            f"{dataset_name} has no protocol '{unknown[0]}'; choose from {', '.join(names)}"
        )
    if only is not None and not only:
        raise UsageError(
            f"no protocol of {dataset_name} is asked for; choose from {', '.join(names)}"
        )
    wanted = [protocol for protocol in table if only is None or protocol.name in only]
    sides = {
        protocol.name: {protocol.selection.query, protocol.selection.gallery} for protocol in wanted
    }
    present = [protocol for protocol in wanted if sides[protocol.name] <= splits.keys()]
    if not present or (only is not None and len(present) < len(wanted)):
        missing = sorted(set().union(*sides.values()) - splits.keys())
        raise UsageError(
            f"{dataset_name}: its test needs features of {', '.join(missing)}; "
            f"given are {', '.join(sorted(splits)) or 'none'}"
        )
    return present


def select_sides(
    selection: Selection,
    splits: Mapping[str, FeatureSet],
    changing_identities: Collection[int] | None = None,
) -> tuple[FeatureSet, FeatureSet]:
    """Queries and gallery of a selection, before single-shot galleries are drawn.

    Args:
        selection: of a protocol.
        splits: features by the split's name.
        changing_identities: as for `evaluate_dataset`.
    """
    sides = [splits[selection.query], splits[selection.gallery]]
    if selection.cameras:
        sides = [side.take(np.isin(side.cameras, selection.cameras)) for side in sides]
    if selection.changing_identities:
        if changing_identities is None:
            changing_identities = clothes_changing_identities(sides)
        chosen = np.asarray(sorted(changing_identities), np.int32)
        sides = [side.take(np.isin(side.identities, chosen)) for side in sides]
    return sides[0], sides[1]


def clothes_changing_identities(sides: Iterable[FeatureSet]) -> list[int]:
    """Identities that wear more than one known outfit in all the sets together, ascending."""
    outfits = np.concatenate([np.stack([side.identities, side.clothes], 1) for side in sides])
    outfits = np.unique(outfits[(outfits != UNKNOWN).all(axis=1)], axis=0)
    identities, counts = np.unique(outfits[:, 0], return_counts=True)
    return identities[counts > 1].tolist()


def _labels_known(
    dataset_name: str, protocol: Protocol, query: FeatureSet, gallery: FeatureSet
) -> bool:
    """Whether the labels that the protocol's rule reads are known.

    Cameras may be unknown, and then nothing is dropped for them. With unknown clothes or
    tracklets the figures would mean something else, so these must be known.

    Raises:
        UserError: they are not, and the protocol is not an optional one.
    """
    for label in sorted(protocol.rule.labels - {"cameras"}):
        unknown = sum(int(_unlabelled(side, label).sum()) for side in (query, gallery))
        if not unknown:
            continue
        reason = f"{label} of {unknown} images are unknown"
        if not protocol.optional:
            raise UserError(
                f"{dataset_name}, {protocol.name}: {reason}, and the protocol drops by them; "
                "prepare the data set again with these labels"
            )
        logger.info("%s, %s is left out: %s", dataset_name, protocol.name, reason)
        return False
    return True


def _unlabelled(side: FeatureSet, label: str) -> Bool[np.ndarray, "N"]:
    return (getattr(side, label) == UNKNOWN) & (side.identities != UNKNOWN)


def _single_shot_galleries(gallery: FeatureSet, seed: int, draws: int) -> list[FeatureSet]:
    """Galleries of one random image for each identity.

    Draw d depends on the seed, d and the gallery's order alone.
    """
    order = np.argsort(gallery.identities, kind="stable")
    order = order[gallery.identities[order] != UNKNOWN]
    _, starts, counts = np.unique(gallery.identities[order], return_index=True, return_counts=True)
    chosen = [np.random.default_rng([seed, draw]).integers(counts) for draw in range(draws)]
    return [gallery.take(np.sort(order[starts + picks])) for picks in chosen]


def _rank_draws(
    query: FeatureSet,
    galleries: Sequence[FeatureSet],
    group: Sequence[Protocol],
    reranking: Reranking | None,
    progress: MakeBar,
    title: str,
) -> list[dict[str, Ranking]]:
    """For each gallery, rankings by the protocol's name."""
    rules = {protocol.name: protocol.rule for protocol in group}
    steps = len(galleries) * len(query)
    if reranking is not None:
        steps += sum(len(query) + len(gallery) for gallery in galleries)
    rankings = []
    with progress(steps, title) as bar:
        for gallery in galleries:
            distances = None
            if reranking is not None:
                distances = reranked_rows(
                    query.features, gallery.features, reranking, advance=bar.advance
                )
            rankings.append(rank(query, gallery, rules, distances=distances, advance=bar.advance))
    return rankings


def _result(dataset_name: str, protocol: Protocol, rankings: Sequence[Ranking]) -> Result | None:
    """The protocol's figures; None if it is optional and no query has a true match."""
    try:
        of_draws = [metrics.summarize(ranking) for ranking in rankings]
    except UserError as error:
        if not protocol.optional:
            raise UserError(f"{dataset_name}, {protocol.name}: {error}") from error
        logger.info("%s, %s is left out: %s", dataset_name, protocol.name, error)
        return None
    if not protocol.selection.single_shot:
        return of_draws[0]
    return metrics.average(metrics.trim(of_draws) if protocol.trimmed else of_draws)
