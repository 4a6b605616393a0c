"""The test protocols of each data set, as one table, to which others can be added.

Names of protocols are for machines (JSON, tables, config): `cloth_changing/single_shot`.
`docs/evaluation.md` says in words what each one is. A data set that is in no table gets those of
an own folder, and as many of them are run as its splits and labels allow.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Literal, Self

from sicl_jax.errors import UsageError
from sicl_jax.evaluation import rules
from sicl_jax.evaluation.rules import Rule
from sicl_jax.register import PROTOCOLS, part_name, parts_of


@dataclasses.dataclass(frozen=True)
class Side:
    """The queries or the gallery: a split, or those of its images that bear certain labels.

    Attributes:
        split: Name of the split.
        only: Names of labels, each with the values that are taken.
    """

    split: str
    only: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @classmethod
    def of(cls, split: str, **only: tuple[int, ...]) -> Self:
        """A side by keywords: `Side.of("query", camera=(3, 4))`."""
        return cls(split, tuple(only.items()))


@dataclasses.dataclass(frozen=True)
class Draw:
    """A gallery of images drawn at random, several times.

    Attributes:
        per: Labels; images are drawn from among those that bear the same.
        images: How many of them, or all where there are fewer.
        released: Trial t draws an image as cross-modality re-identification's code does, by
            Python's generator with the seed t (`docs/methods/cclnet.md`, section 8), so that
            figures compare with the literature's; otherwise the test's seed decides.
        published: Trial t takes the first images of the order that the data set's authors give
            (label `draw_t`), in so many trials as there are; left out where they are unknown.
    """

    per: tuple[str, ...] = ("identity",)
    images: int = 1
    released: bool = False
    published: bool = False

    def __post_init__(self):
        """Checks that a published trial is of single images.

        Raises:
            UsageError: It is not.
        """
        if self.images < 1 or (self.released and self.images > 1):
            raise UsageError(f"draw of {self.images} images: give 1 or more, 1 if as released")


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which images are queries and which the gallery.

    Attributes:
        query: Where the queries are from.
        gallery: Where the gallery is from.
        changing_identities: Whether only identities that change clothes are taken, on both sides.
        draw: How the gallery is drawn, or None for all of it.
        tracklets: Whether queries and gallery are tracklets, whose features are means over their
            images (`FeatureSet.by_tracklet`).
    """

    query: Side = Side("query")
    gallery: Side = Side("gallery")
    changing_identities: bool = False
    draw: Draw | None = None
    tracklets: bool = False


TEST = (Selection(),)
"""All of the splits `query` and `gallery`."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One way to test: who looks for whom, and what is dropped from the gallery for a query.

    Attributes:
        name: The machine name.
        parts: Tests whose rankings are joined: a figure is the mean over the queries of all.
        rule: What is dropped.
        count: Whether the rank of the first match counts `images` or `identities`, see
            `ranking.rank`.
        ties: Whether average precision takes equal distances `in order` or `together`, likewise.
        trimmed: Whether the best and the worst draw of the gallery are dropped before averaging.
        optional: Whether it is left out where labels are unknown or no query has a true match, as
            may be in a user's own folder; any other protocol is then an error.
        validation: Whether its images are no test images, so that choosing a checkpoint by it
            leaves the test untouched.
    """

    name: str
    parts: tuple[Selection, ...] = TEST
    rule: Rule = rules.NOTHING
    count: Literal["images", "identities"] = "images"
    ties: Literal["in order", "together"] = "in order"
    trimmed: bool = False
    optional: bool = False
    validation: bool = False

    @property
    def drawn(self) -> bool:
        """Whether any gallery is drawn at random."""
        return any(part.draw is not None for part in self.parts)

    @property
    def labels(self) -> frozenset[str]:
        """Labels that it cannot do without; an unknown camera drops nothing."""
        tracklets = any(part.tracklets for part in self.parts)
        return (self.rule.labels | ({"tracklet"} if tracklets else set())) - {"camera"}

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that it reads, each once."""
        sides = (side.split for part in self.parts for side in (part.query, part.gallery))
        return tuple(dict.fromkeys(sides))


@dataclasses.dataclass(frozen=True)
class Protocols:
    """The protocols of one data set.

    Attributes:
        table: The protocols, the primary one first.
        selection: Name of the one that chooses the best checkpoint, unless a config asks for
            another: that of validation where there is one, else the primary one.
    """

    table: tuple[Protocol, ...]
    selection: str = ""

    def __post_init__(self):
        """Checks the table and chooses `selection` where it was not.

        Raises:
            UsageError: There is no protocol, two have one name, or `selection` is not among them.
        """
        names = [protocol.name for protocol in self.table]
        if not names or len(set(names)) < len(names):
            raise UsageError(f"protocols {names}: give one or more, each with a name of its own")
        validation = [protocol.name for protocol in self.table if protocol.validation]
        object.__setattr__(self, "selection", self.selection or [*validation, names[0]][0])
        if self.selection not in names:
            raise UsageError(
                f"selection {self.selection!r} is no protocol; choose from {', '.join(names)}"
            )


def register_protocols(dataset_name: str, table: Sequence[Protocol], selection: str = "") -> None:
    """Gives an own data set its test protocols, for this process.

    An installed package declares them by an entry point of the group `sicl_jax.protocols` instead:
    `my_data = "my_package:PROTOCOLS"`, where `PROTOCOLS` is a `Protocols`.

    Args:
        dataset_name: The builder's name.
        table: The protocols, the primary one first.
        selection: As in `Protocols`.

    Raises:
        UsageError: The data set has protocols already, or they make no sense.
    """
    PROTOCOLS.register(dataset_name, Protocols(tuple(table), selection))


def _prcc_side(name: str, query: str) -> tuple[Protocol, ...]:
    drawn = (Selection(Side(query), draw=Draw()),)
    return (
        Protocol(f"{name}/single_shot", drawn),
        Protocol(f"{name}/single_shot_trimmed", drawn, trimmed=True),
        Protocol(f"{name}/all", (Selection(Side(query)),)),
    )


def _vc_clothes_cameras(name: str, *cameras: int) -> Protocol:
    """Cameras bear the numbers of the file names: 2 and 3 see the same clothes, 3 and 4 others."""
    sides = (Side.of(split, camera=cameras) for split in ("query", "gallery"))
    return Protocol(name, (Selection(*sides),), rules.STANDARD)


def _sysu_mm01(name: str, *cameras: int) -> tuple[Protocol, ...]:
    """Infrared queries; a visible gallery of the given cameras, one or ten images of each."""
    gallery = Side.of("gallery", camera=cameras)
    per = ("identity", "camera")
    draws = {
        "single_shot": Draw(per, released=True),
        "ten_shot": Draw(per, images=10),
        "single_shot_official": Draw(per, published=True),
        "ten_shot_official": Draw(per, images=10, published=True),
    }
    return tuple(
        Protocol(
            f"{name}/{shots}",
            (Selection(gallery=gallery, draw=draw),),
            rules.SYSU_MM01,
            count="identities",
            optional=draw.published,
        )
        for shots, draw in draws.items()
    )


def _both_directions(draw: Draw | None = None, **options) -> tuple[Protocol, ...]:
    """Visible queries (`query`) in an infrared gallery, the reverse, and the mean over both."""
    there = Selection(draw=draw)
    back = Selection(Side("gallery"), Side("query"), draw=draw)
    return (
        Protocol("visible_to_infrared", (there,), **options),
        Protocol("infrared_to_visible", (back,), **options),
        Protocol("both_directions", (there, back), **options),
    )


_PRCC = _prcc_side("cloth_changing", "query_changed") + _prcc_side("same_clothes", "query_same")
_STANDARD = Protocol("standard", rule=rules.STANDARD)
_RELEASED = Protocol("standard/released", rule=rules.RELEASED)
_CELEB = (_STANDARD, Protocol("standard/cssc_released", rule=rules.SAME_POSITION))
_PLAIN = (
    _STANDARD,
    Protocol("standard/ties_together", rule=rules.STANDARD, ties="together"),
)
_SYSU_MM01 = (
    *_sysu_mm01("all_search", 1, 2, 4, 5),
    *_sysu_mm01("indoor_search", 1, 2),
)
_TRACKLETS = (Selection(tracklets=True),)
_VALIDATION = (Selection(Side("val_query"), Side("val_gallery")),)

_TABLES: dict[str, tuple[Protocol, ...]] = {
    "prcc": _PRCC,
    "synthetic_people": _PRCC,
    "ltcc": (
        Protocol("cloth_changing", rule=rules.CLOTH_CHANGING),
        Protocol(
            "cloth_changing/changing_identities",
            (Selection(changing_identities=True),),
            rules.CLOTH_CHANGING,
        ),
        _STANDARD,
        _RELEASED,
    ),
    "vc_clothes": (
        _vc_clothes_cameras("cloth_changing", 3, 4),
        _vc_clothes_cameras("same_clothes", 2, 3),
        _STANDARD,
        _RELEASED,
    ),
    "celeb_reid": _CELEB,
    "celeb_reid_light": _CELEB,
    "deepchange": (
        Protocol("standard", rule=rules.SAME_TRACKLET),
        Protocol("validation", _VALIDATION, rules.SAME_TRACKLET, validation=True),
    ),
    "ccvid": (
        Protocol("cloth_changing", _TRACKLETS, rules.CLOTH_CHANGING),
        Protocol("same_clothes", _TRACKLETS, rules.SAME_CLOTHES_ONLY, optional=True),
        Protocol("standard", _TRACKLETS, rules.STANDARD),
    ),
    "market1501": _PLAIN,
    "msmt17": _PLAIN,
    "personx": _PLAIN,
    "veri": _PLAIN,
    "sysu_mm01": _SYSU_MM01,
    "synthetic_people/infrared": _SYSU_MM01,
    "synthetic_people/infrared_tiny": _SYSU_MM01,
    # One split of the identities is one trial; the builder has a config for each of the ten.
    "regdb": _both_directions(),
    "llcm": _both_directions(
        Draw(("identity", "camera"), released=True), rule=rules.STANDARD, count="identities"
    ),
}
for _name, _table in _TABLES.items():
    PROTOCOLS.register(_name, Protocols(_table))

_DEFAULT = Protocols(
    (
        Protocol("cloth_changing", rule=rules.CLOTH_CHANGING, optional=True),
        Protocol("same_clothes", rule=rules.SAME_CLOTHES_ONLY, optional=True),
        _STANDARD,
    )
)


def _of_part(part: str, protocol: Protocol) -> Protocol:
    """A protocol of a data set as one of the data sets that it is joined into."""

    def named(side: Side) -> Side:
        return dataclasses.replace(side, split=part_name(part, side.split))

    parts = tuple(
        dataclasses.replace(each, query=named(each.query), gallery=named(each.gallery))
        for each in protocol.parts
    )
    return dataclasses.replace(protocol, name=part_name(part, protocol.name), parts=parts)


def _protocols(dataset_name: str) -> Protocols:
    if len(parts_of(dataset_name)) > 1:
        parts = {part: _protocols(part) for part in parts_of(dataset_name)}
        table = (_of_part(part, each) for part, found in parts.items() for each in found.table)
        first, found = next(iter(parts.items()))
        return Protocols(tuple(table), part_name(first, found.selection))
    for name in (dataset_name, dataset_name.partition("/")[0]):
        if name in PROTOCOLS:
            return PROTOCOLS.get(name)
    return _DEFAULT


def protocols(dataset_name: str, splits: Collection[str] | None = None) -> tuple[Protocol, ...]:
    """The protocols of a data set, the primary one first.

    Args:
        dataset_name: As in `prcc` or, with its builder's config, `synthetic_people/demo`. Those
            of a config go before those of its builder; a data set that none are registered for has
            those of an own folder. Joined data sets, `prcc+ltcc`, have those of each, named
            `prcc/...` and `ltcc/...`.
        splits: Names of the splits that are there; protocols that lack one are left out.
    """
    table = _protocols(dataset_name).table
    return tuple(each for each in table if splits is None or set(each.splits) <= set(splits))


def primary_protocol(dataset_name: str, among: Collection[str] | None = None) -> str:
    """The protocol by which a model is summed up in one line: cloth-changing where there is one.

    PRCC's and the synthetic people's is single-shot, the one that papers report first.

    Args:
        dataset_name: As for `protocols`.
        among: Names (or results) to choose from; a user's folder may lack clothes labels, and then
            the next protocol takes the cloth-changing one's place.

    Raises:
        UsageError: None of the data set's protocols is in `among`.
    """
    for protocol in protocols(dataset_name):
        if among is None or protocol.name in among:
            return protocol.name
    raise UsageError(f"data set '{dataset_name}' has no protocol among: {', '.join(among)}")


def selection_protocol(
    dataset_name: str, among: Collection[str] | None = None, asked: str | None = None
) -> str:
    """The protocol that chooses the best checkpoint.

    Args:
        dataset_name: As for `protocols`.
        among: Names (or results) to choose from.
        asked: The one that the config asks for; None for the data set's own choice, and for the
            primary one where that is not among the names.

    Raises:
        UsageError: The one asked for is not among the names, or none is.
    """
    found = _protocols(dataset_name)
    names = [each.name for each in found.table if among is None or each.name in among]
    if asked is not None:
        if asked not in names:
            raise UsageError(
                f"config.evaluate.select_by: {dataset_name} has no protocol {asked!r} here; "
                f"choose from {', '.join(names)}"
            )
        return asked
    return found.selection if found.selection in names else primary_protocol(dataset_name, among)


def selects_on_test(dataset_name: str, protocol: str) -> bool:
    """Whether a checkpoint chosen by a protocol was chosen on the images that it is tested on."""
    return not any(each.validation for each in protocols(dataset_name) if each.name == protocol)


def required_splits(dataset_name: str, splits: Collection[str] | None = None) -> tuple[str, ...]:
    """Names of the splits that `protocols` of the same arguments reads, each once."""
    found = protocols(dataset_name, splits)
    return tuple(dict.fromkeys(name for protocol in found for name in protocol.splits))
