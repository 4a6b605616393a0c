"""Runs a data set's protocols on the features of its splits."""

import itertools
import logging
import random
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from sicl_jax.errors import UsageError, UserError
from sicl_jax.evaluation import metrics
from sicl_jax.evaluation.bootstrap import with_intervals
from sicl_jax.evaluation.features import UNKNOWN, FeatureSet
from sicl_jax.evaluation.metrics import Result
from sicl_jax.evaluation.progress import MakeBar, silent
from sicl_jax.evaluation.protocols import Draw, Protocol, Selection, Side, protocols
from sicl_jax.evaluation.ranking import Ranking, join, rank
from sicl_jax.evaluation.reranking import Reranking, reranked_rows
from sicl_jax.register import DRAW

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
    """Tests features under the protocols of a data set.

    Args:
        dataset_name: As in `prcc` or `synthetic_people/demo`.
        splits: Features by the split's name; a protocol whose splits are not given is left out.
        seed: Decides the drawn galleries, but those of published trials, and the bootstrap.
        draws: Number of drawn galleries, 3 or more as the trimmed mean drops two.
        only: Names of the protocols to run, all of them if None.
        changing_identities: The identities that change clothes, for protocols restricted to
            them; if None, those with more than one outfit in query and gallery together.
        reranking: Parameters of k-reciprocal re-ranking, or None for none.
        bootstrap: Number of the bootstrap's samples, 0 for no confidence intervals.
        progress: Makes a progress bar of a number of steps and a description.

    Returns:
        Results by the protocol's name, the primary protocol first.

    Raises:
        UsageError: An unknown protocol, a split that is missing, too few draws, or re-ranking of
            features that are compared by their inner products.
        UserError: Labels that a protocol needs are unknown, or no query has a true match.
    """
    if draws < MIN_DRAWS:
        raise UsageError(f"draws = {draws}: give {MIN_DRAWS} or more")
    if reranking is not None and any(side.similarity == "dot" for side in splits.values()):
        raise UsageError(
            "re-ranking needs Euclidean distances, and these features are compared by their inner "
            "products; test them without it"
        )
    chosen = _choose(dataset_name, splits, only)
    results = {}
    # Protocols with the same queries and gallery share their distances.
    for parts, count, ties in dict.fromkeys(map(_ranked_by, chosen)):
        sides = [select_sides(part, splits, changing_identities) for part in parts]
        group = [
            protocol
            for protocol in chosen
            if _ranked_by(protocol) == (parts, count, ties)
            and _labels_known(dataset_name, protocol, sides)
        ]
        if not group:
            continue
        trials = _trials(parts, sides, seed, draws)
        options = {"count": count, "ties": ties}
        title = f"{dataset_name}, {group[0].name}"
        rankings = _rank_trials(trials, group, options, reranking, progress, title)
        cameras = np.concatenate([query.label("camera") for query, _ in sides])
        for protocol in group:
            of_trials = [ranking[protocol.name] for ranking in rankings]
            result = _result(dataset_name, protocol, of_trials, cameras)
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
    """The protocols that are asked for and whose splits are there, in the table's order."""
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
    present = [protocol for protocol in wanted if set(protocol.splits) <= splits.keys()]
    if not present or (only is not None and len(present) < len(wanted)):
        missing = sorted({name for protocol in wanted for name in protocol.splits} - splits.keys())
        if not splits:
            raise UsageError(
                f"{dataset_name} has no test splits; prepare it with {', '.join(missing)}, or "
                "register protocols for the splits that it has (docs/evaluation.md)"
            )
        raise UsageError(
            f"{dataset_name}: its test needs features of {', '.join(missing)}; "
            f"given are {', '.join(sorted(splits))}"
        )
    return present


def _ranked_by(protocol: Protocol) -> tuple:
    """What decides the rankings before anything is dropped."""
    return protocol.parts, protocol.count, protocol.ties


Sides = tuple[FeatureSet, FeatureSet]
"""Queries and gallery."""


def select_sides(
    selection: Selection,
    splits: Mapping[str, FeatureSet],
    changing_identities: Collection[int] | None = None,
) -> Sides:
    """Queries and gallery of a selection, before a gallery is drawn.

    Args:
        selection: Of a protocol.
        splits: Features by the split's name.
        changing_identities: As for `evaluate_dataset`.
    """
    sides = [_side(side, splits) for side in (selection.query, selection.gallery)]
    if selection.changing_identities:
        if changing_identities is None:
            changing_identities = clothes_changing_identities(sides)
        chosen = np.asarray(sorted(changing_identities), np.int32)
        sides = [side.take(np.isin(side.label("identity"), chosen)) for side in sides]
    if selection.tracklets:
        sides = [side.by_tracklet() for side in sides]
    return sides[0], sides[1]


def _side(side: Side, splits: Mapping[str, FeatureSet]) -> FeatureSet:
    features = splits[side.split]
    for label, values in side.only:
        features = features.take(np.isin(features.label(label), values))
    return features


def clothes_changing_identities(sides: Iterable[FeatureSet]) -> list[int]:
    """Identities that wear more than one known outfit in all the sets together, ascending."""
    outfits = np.concatenate(
        [np.stack([side.label("identity"), side.label("clothes")], 1) for side in sides]
    )
    outfits = np.unique(outfits[(outfits != UNKNOWN).all(axis=1)], axis=0)
    identities, counts = np.unique(outfits[:, 0], return_counts=True)
    return identities[counts > 1].tolist()


def _labels_known(dataset_name: str, protocol: Protocol, sides: Sequence[Sides]) -> bool:
    """Whether the labels that the protocol reads are known.

    Cameras may be unknown, and then nothing is dropped for them. With unknown clothes or
    tracklets the figures would mean something else, so these must be known.

    Raises:
        UserError: They are not, and the protocol is not an optional one.
    """
    for label in sorted(protocol.labels):
        unknown = sum(int(_unlabelled(side, label).sum()) for part in sides for side in part)
        if not unknown:
            continue
        reason = f"label {label} of {unknown} images is unknown"
        if not protocol.optional:
            raise UserError(
                f"{dataset_name}, {protocol.name}: {reason}, and the protocol reads it; "
                "prepare the data set again with these labels"
            )
        logger.info("%s, %s is left out: %s", dataset_name, protocol.name, reason)
        return False
    for part, (_, gallery) in zip(protocol.parts, sides, strict=True):
        if part.draw is not None and part.draw.published and not _published_trials(gallery):
            reason = "the data set's own draws were not there when it was prepared"
            logger.info("%s, %s is left out: %s", dataset_name, protocol.name, reason)
            return False
    return True


def _published_trials(gallery: FeatureSet) -> int:
    """How many trials the data set's authors have drawn."""
    return next(t for t in itertools.count() if DRAW.format(t) not in gallery.labels)


def _unlabelled(side: FeatureSet, label: str) -> Bool[np.ndarray, "N"]:
    return (side.label(label) == UNKNOWN) & (side.label("identity") != UNKNOWN)


def _trials(
    parts: Sequence[Selection], sides: Sequence[Sides], seed: int, draws: int
) -> list[list[Sides]]:
    """Queries and gallery of each part, for each draw of the galleries; one trial if none is."""
    if all(part.draw is None for part in parts):
        return [list(sides)]
    if any(part.draw is not None and part.draw.published for part in parts):
        draws = min(_published_trials(gallery) for _, gallery in sides)
    return [
        [
            (
                query,
                gallery if part.draw is None else drawn_gallery(gallery, part.draw, seed, trial),
            )
            for part, (query, gallery) in zip(parts, sides, strict=True)
        ]
        for trial in range(draws)
    ]


def drawn_gallery(gallery: FeatureSet, draw: Draw, seed: int, trial: int) -> FeatureSet:
    """The images that one trial draws, in the gallery's order.

    They depend on the seed (if not `draw.released`), the trial, the labels and the gallery's order
    alone. Images of unknown identity are not drawn.
    """
    if draw.published:
        place = gallery.label(DRAW.format(trial))
        return gallery.take((place >= 0) & (place < draw.images))
    known = np.flatnonzero(gallery.label("identity") != UNKNOWN)
    labels = np.stack([gallery.label(label)[known] for label in draw.per], axis=1)
    # Groups of equal labels in their order, each group's rows in the gallery's.
    order = np.lexsort(labels.T[::-1])
    rows = known[order]
    _, group, counts = np.unique(labels[order], axis=0, return_inverse=True, return_counts=True)
    starts = np.cumsum(counts) - counts
    if draw.released:
        generator = random.Random(trial)
        picks = [generator.choice(range(count)) for count in counts.tolist()]
        chosen = starts + np.array(picks, int)
    elif draw.images == 1:
        chosen = starts + np.random.default_rng([seed, trial]).integers(counts)
    else:
        shuffled = np.lexsort((np.random.default_rng([seed, trial]).random(len(rows)), group))
        chosen = shuffled[np.arange(len(rows)) - starts[group] < draw.images]
    return gallery.take(np.sort(rows[chosen]))


def _rank_trials(
    trials: Sequence[Sequence[Sides]],
    group: Sequence[Protocol],
    options: Mapping[str, str],
    reranking: Reranking | None,
    progress: MakeBar,
    title: str,
) -> list[dict[str, Ranking]]:
    """For each trial, rankings by the protocol's name, those of its parts joined."""
    rules = {protocol.name: protocol.rule for protocol in group}
    sizes = [(len(query), len(gallery)) for trial in trials for query, gallery in trial]
    steps = sum(queries for queries, _ in sizes)
    if reranking is not None:
        steps += sum(queries + images for queries, images in sizes)
    rankings = []
    with progress(steps, title) as bar:
        for trial in trials:
            of_parts = []
            for query, gallery in trial:
                distances = None
                if reranking is not None:
                    distances = reranked_rows(
                        query.features, gallery.features, reranking, advance=bar.advance
                    )
                of_parts.append(
                    rank(query, gallery, rules, distances=distances, advance=bar.advance, **options)
                )
            rankings.append({name: join(part[name] for part in of_parts) for name in rules})
    return rankings


def _result(
    dataset_name: str, protocol: Protocol, rankings: Sequence[Ranking], cameras: np.ndarray
) -> Result | None:
    """The protocol's figures; None if it is optional and no query has a true match."""
    try:
        of_trials = [metrics.summarize(ranking, cameras) for ranking in rankings]
    except UserError as error:
        if not protocol.optional:
            raise UserError(f"{dataset_name}, {protocol.name}: {error}") from error
        logger.info("%s, %s is left out: %s", dataset_name, protocol.name, error)
        return None
    if not protocol.drawn:
        return of_trials[0]
    return metrics.average(metrics.trim(of_trials) if protocol.trimmed else of_trials)
