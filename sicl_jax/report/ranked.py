"""Ranked galleries as HTML: a query, then what was found, nearest first."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image

from sicl_jax.report.document import element, picture, text
from sicl_jax.report.marks import Mark

_CLASSES = {
    Mark.OTHER_CLOTHES: "true",
    Mark.SAME_CLOTHES: "true same",
    Mark.SAME_PERSON: "true",
    Mark.OTHER_PERSON: "false",
    Mark.UNKNOWN: "unknown",
}
_SIGNS = {"true": "✓", "true same": "✓", "false": "✕"}


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """An image in a ranked gallery.

    Attributes:
        image: (H, W, 3) uint8, or a PIL image.
        name: Its file name.
        mark: What it is to the query.
        value: Its distance or similarity, in words.
    """

    image: np.ndarray | Image.Image
    name: str
    mark: Mark
    value: str


def ranked_line(
    query: np.ndarray | Image.Image, name: str, found: Sequence[Found], caption: str = ""
) -> str:
    """One query and what was found for it.

    Args:
        query: (H, W, 3) uint8, or a PIL image.
        name: Its file name.
        found: Images, nearest first.
        caption: Said above the line besides the name.
    """
    first = element(
        "li", picture(query, f"query {name}"), element("small", "query"), class_="query"
    )
    items = [first, *(_item(rank, hit) for rank, hit in enumerate(found, start=1))]
    line = element(
        "ol",
        *items,
        class_="line",
        tabindex=0,
        aria_label=f"query {name} and the {len(found)} nearest images",
    )
    words = text(name) + (f" · {text(caption)}" if caption else "")
    return element("div", element("p", words), line, class_="ranked")


def key(marks: Sequence[Mark]) -> str:
    """What the frames mean, for the marks that occur."""
    shown = [mark for mark in Mark if mark in set(marks)]
    return element("ul", *(_explained(mark) for mark in shown), class_="key")


def _item(rank: int, hit: Found) -> str:
    alt = f"rank {rank}: {hit.mark.value}; {hit.name}; {hit.value}"
    return element(
        "li",
        picture(hit.image, alt, title=f"{hit.name}\n{hit.mark.value}"),
        _badge(hit.mark),
        element("small", text(f"{rank} · {hit.value}")),
        class_=_CLASSES[hit.mark],
    )


def _badge(mark: Mark) -> str:
    sign = _SIGNS.get(_CLASSES[mark])
    return element("span", sign, class_="badge", aria_hidden="true") if sign else ""


def _explained(mark: Mark) -> str:
    return element("li", _badge(mark), text(mark.value), class_=_CLASSES[mark])
