"""Run a data set's protocols on the features of its splits."""

import logging
from collections.abc import Collection, Iterable, Mapping

import numpy as np
from jaxtyping import Bool

from sicl_jax.errors import UsageError, UserError
from sicl_jax.evaluation import metrics
from sicl_jax.evaluation.features import UNKNOWN, FeatureSet
from sicl_jax.evaluation.metrics import Result
from sicl_jax.evaluation.protocols import Protocol, Selection, protocols
from sicl_jax.evaluation.ranking import rank

logger = logging.getLogger(__name__)

DRAWS = 10


def evaluate_dataset(
    dataset_name: str,
    splits: Mapping[str, FeatureSet],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    only: Collection[str] | None = None,
    changing_identities: Collection[int] | None = None,
) -> dict[str, Result]:
    """Test features under the protocols of a data set.

    Args:
        dataset_name: as in `prcc` or `synthetic_people/demo`.
        splits: features by the split's name; a protocol whose splits are not given is left out.
        seed: decides the single-shot galleries.
        draws: number of single-shot galleries.
        only: names of the protocols to run, all of them if None.
        changing_identities: the identities that change clothes, for protocols restricted to
            them; if None, those with more than one outfit in query and gallery together.

    Returns:
        Results by the protocol's name, the primary protocol first.

    Raises:
        UsageError: an unknown data set or protocol, or a split that is missing.
        UserError: labels that a protocol needs are unknown, or no query has a true match.
    """
    chosen = _choose(dataset_name, splits, only)
    groups: dict[Selection, list[Protocol]] = {}
    for protocol in chosen:
        groups.setdefault(protocol.selection, []).append(protocol)
    results = {}
    for selection, group in groups.items():
        results |= _evaluate_selection(
            dataset_name, selection, group, splits, seed, draws, changing_identities
        )
    if not results:
        raise UserError(
            f"{dataset_name}: no protocol could be run, as no query has a true match under any"
        )
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
    wanted = [protocol for protocol in table if only is None or protocol.name in only]
    missing = {
        name
        for protocol in wanted
        for name in (protocol.selection.query, protocol.selection.gallery)
        if name not in splits
    }
    present = [
        protocol
        for protocol in wanted
        if not missing & {protocol.selection.query, protocol.selection.gallery}
    ]
    if missing and (only is not None or not present):
        raise UsageError(
            f"{dataset_name}: its test needs features of split '{min(missing)}'; "
            f"given are {', '.join(sorted(splits)) or 'none'}"
        )
    return present


def _evaluate_selection(
    dataset_name: str,
    selection: Selection,
    group: list[Protocol],
    splits: Mapping[str, FeatureSet],
    seed: int,
    draws: int,
    changing_identities: Collection[int] | None,
) -> dict[str, Result]:
    """Results of the protocols that share queries and gallery, and so their distances."""
    query, gallery = _select(selection, splits, changing_identities)
    group = [
        protocol
        for protocol in group
        if _can_run(f"{dataset_name}, {protocol.name}", protocol, query, gallery)
    ]
    if not group:
        return {}
    rules = {protocol.name: protocol.rule for protocol in group}
    galleries = _single_shot_galleries(gallery, seed, draws) if selection.single_shot else [gallery]
    rankings = [rank(query, gallery, rules) for gallery in galleries]
    results = {}
    for protocol in group:
        try:
            of_draws = [metrics.summarize(ranking[protocol.name]) for ranking in rankings]
        except UserError as error:
            if not protocol.optional:
                raise UserError(f"{dataset_name}, {protocol.name}: {error}") from error
            logger.info("%s, %s is left out: %s", dataset_name, protocol.name, error)
            continue
        if protocol.trimmed:
            of_draws = metrics.trim(of_draws)
        results[protocol.name] = metrics.average(of_draws) if selection.single_shot else of_draws[0]
    return results


def _select(
    selection: Selection,
    splits: Mapping[str, FeatureSet],
    changing_identities: Collection[int] | None,
) -> tuple[FeatureSet, FeatureSet]:
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


def _can_run(where: str, protocol: Protocol, query: FeatureSet, gallery: FeatureSet) -> bool:
    """Whether the labels that the protocol's rule reads are known.

    Cameras may be unknown, and then nothing is dropped for them. With unknown clothes or
    tracklets the figures would mean something else, so these must be known.
    """
    for label in sorted(protocol.rule.labels - {"cameras"}):
        unknown = sum(int(_unlabelled(side, label).sum()) for side in (query, gallery))
        if not unknown:
            continue
        if not protocol.optional:
            raise UserError(
                f"{where}: {label} of {unknown} images are unknown, and the protocol drops by "
                "them; prepare the data set again with these labels"
            )
        logger.info("%s is left out: %s of %d images are unknown", where, label, unknown)
        return False
    return True


def _unlabelled(side: FeatureSet, label: str) -> Bool[np.ndarray, "N"]:
    return (getattr(side, label) == UNKNOWN) & (side.identities != UNKNOWN)


def _single_shot_galleries(gallery: FeatureSet, seed: int, draws: int) -> Iterable[FeatureSet]:
    """Galleries of one random image for each identity.

    Draw d depends on the seed, d and the gallery's order alone.
    """
    order = np.argsort(gallery.identities, kind="stable")
    identities, starts, counts = np.unique(
        gallery.identities[order], return_index=True, return_counts=True
    )
    known = identities != UNKNOWN
    for draw in range(draws):
        chosen = np.random.default_rng([seed, draw]).integers(counts)
        yield gallery.take(np.sort(order[(starts + chosen)[known]]))
