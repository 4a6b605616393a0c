"""The test protocols of each data set, as one table.

Names of protocols are for machines (JSON, tables, config): `cloth_changing/single_shot`.
`docs/evaluation.md` says in words what each one is.
"""

import dataclasses
from collections.abc import Collection

from sicl_jax.errors import UsageError
from sicl_jax.evaluation import rules
from sicl_jax.evaluation.rules import Rule


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which images are queries and which the gallery.

    Attributes:
        query: the split of the queries.
        gallery: the split of the gallery.
        cameras: if any, only images of these cameras, on both sides.
        changing_identities: only identities that change clothes, on both sides.
        single_shot: one random gallery image for each identity, drawn several times.
    """

    query: str = "query"
    gallery: str = "gallery"
    cameras: tuple[int, ...] = ()
    changing_identities: bool = False
    single_shot: bool = False


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One way to test: who looks for whom, and what is dropped from the gallery for a query.

    Attributes:
        name: the machine name.
        selection: queries and gallery.
        rule: what is dropped.
        trimmed: the best and the worst draw of the gallery are dropped before averaging.
        optional: left out where labels are unknown or no query has a true match, as may be in
            a user's own folder; any other protocol is then an error.
    """

    name: str
    selection: Selection
    rule: Rule
    trimmed: bool = False
    optional: bool = False


def _prcc_side(side: str, query: str) -> tuple[Protocol, ...]:
    drawn = Selection(query, single_shot=True)
    return (
        Protocol(f"{side}/single_shot", drawn, rules.NOTHING),
        Protocol(f"{side}/single_shot_trimmed", drawn, rules.NOTHING, trimmed=True),
        Protocol(f"{side}/all", Selection(query), rules.NOTHING),
    )


_TEST = Selection()
_PRCC = _prcc_side("cloth_changing", "query_changed") + _prcc_side("same_clothes", "query_same")
_CELEB = (Protocol("standard", _TEST, rules.STANDARD),)

# The first protocol of each data set is its primary one.
_PROTOCOLS: dict[str, tuple[Protocol, ...]] = {
    "prcc": _PRCC,
    "synthetic_people": _PRCC,
    "ltcc": (
        Protocol("cloth_changing", _TEST, rules.CLOTH_CHANGING),
        Protocol(
            "cloth_changing/changing_identities",
            Selection(changing_identities=True),
            rules.CLOTH_CHANGING,
        ),
        Protocol("standard", _TEST, rules.STANDARD),
        Protocol("standard/released", _TEST, rules.RELEASED),
    ),
    # Cameras bear the numbers of the file names. 2 and 3 see the same clothes, 3 and 4 others.
    "vc_clothes": (
        Protocol("cloth_changing", Selection(cameras=(3, 4)), rules.STANDARD),
        Protocol("same_clothes", Selection(cameras=(2, 3)), rules.STANDARD),
        Protocol("standard", _TEST, rules.STANDARD),
        Protocol("standard/released", _TEST, rules.RELEASED),
    ),
    "celeb_reid": _CELEB,
    "celeb_reid_light": _CELEB,
    "deepchange": (
        Protocol("standard", _TEST, rules.SAME_TRACKLET),
        Protocol("validation", Selection("val_query", "val_gallery"), rules.SAME_TRACKLET),
    ),
    "person_folder": (
        Protocol("cloth_changing", _TEST, rules.CLOTH_CHANGING, optional=True),
        Protocol("same_clothes", _TEST, rules.SAME_CLOTHES_ONLY, optional=True),
        Protocol("standard", _TEST, rules.STANDARD),
    ),
}

_SELECTION_PROTOCOLS = {"deepchange": "validation"}


def protocols(dataset_name: str) -> tuple[Protocol, ...]:
    """The protocols of a data set, the primary one first.

    Args:
        dataset_name: as in `prcc` or, with its builder's config, `synthetic_people/demo`.

    Raises:
        UsageError: no such data set.
    """
    name = dataset_name.partition("/")[0]
    if name not in _PROTOCOLS:
        raise UsageError(
            f"data set '{dataset_name}' has no test protocols; choose from "
            f"{', '.join(sorted(_PROTOCOLS))}"
        )
    return _PROTOCOLS[name]


def primary_protocol(dataset_name: str, among: Collection[str] | None = None) -> str:
    """The protocol by which a model is summed up in one line: cloth-changing where there is one.

    PRCC's and the synthetic people's is single-shot, the one that papers report first.

    Args:
        dataset_name: as in `prcc` or `synthetic_people/demo`.
        among: names (or results) to choose from; a user's folder may lack clothes labels, and then
            the next protocol takes the cloth-changing one's place.

    Raises:
        UsageError: no such data set, or none of its protocols is in `among`.
    """
    for protocol in protocols(dataset_name):
        if among is None or protocol.name in among:
            return protocol.name
    raise UsageError(f"data set '{dataset_name}' has no protocol among: {', '.join(among)}")


def selection_protocol(dataset_name: str, among: Collection[str] | None = None) -> str:
    """The protocol that chooses the best checkpoint: the validation one where there is one.

    Takes and raises what `primary_protocol` does.
    """
    name = _SELECTION_PROTOCOLS.get(dataset_name.partition("/")[0])
    if name is not None and (among is None or name in among):
        return name
    return primary_protocol(dataset_name, among)


def required_splits(dataset_name: str) -> tuple[str, ...]:
    """Names of the splits that the data set's protocols read, without repetition."""
    selections = [protocol.selection for protocol in protocols(dataset_name)]
    names = [name for selection in selections for name in (selection.query, selection.gallery)]
    return tuple(dict.fromkeys(names))
