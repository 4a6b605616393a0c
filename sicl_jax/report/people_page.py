"""The people of an index as pages: groups with their trust, then the images like no other."""

import pathlib
from collections.abc import Iterator

import numpy as np

from sicl_jax.console import counted
from sicl_jax.report.document import document, element, note, picture, section, text, thumb
from sicl_jax.report.paging import in_pages
from sicl_jax.retrieval.people import ALONE, People

_GROUPS_A_PAGE = 40
_MOST_MEMBERS, _MOST_ALONE = 24, 240
_THUMB = 48


def people_pages(
    people: People, about: str, file: pathlib.Path
) -> Iterator[tuple[pathlib.Path, str]]:
    """The pages, each with the file to write it to.

    Args:
        people: The groups.
        about: A line about the index and the model.
        file: The first page; further ones lie beside it.

    Raises:
        UserError: An image can no longer be read.
    """
    order = sorted(people.trust, key=lambda person: (-len(people.members(person)), person))
    alone = people.members(ALONE)
    words = note(
        f"{counted(len(order), 'group')}, {counted(len(alone), 'image')} like no other. Trust is 1 "
        "where a group is the same at a stricter and at a looser threshold; look at those with "
        "little first. In a group, the images most like it come first. A group is a guess, never "
        "proof."
    )
    for path, shown, links in in_pages(file, order, _GROUPS_A_PAGE):
        cards = [_card(people, person) for person in shown]
        grid = element("div", *cards, class_="clusters")
        parts = [section("people", "People", words, links, grid, links)]
        navigation = [("people", "People")]
        if len(alone) and shown == order[-len(shown) :]:
            parts.append(_alone(people, alone))
            navigation.append(("alone", "Alone"))
        yield path, document("Who is who", about, "".join(parts), parts=navigation)


def _card(people: People, person: int) -> str:
    rows = people.members(person)
    words = f"{len(rows)} images, trust {people.trust[person]:.2f}"
    if len(rows) > _MOST_MEMBERS:
        words += f"; {_MOST_MEMBERS} shown"
    places = np.linspace(0, len(rows) - 1, min(_MOST_MEMBERS, len(rows)))
    tiles = [_tile(people, row) for row in rows[np.round(places).astype(int)]]
    return element(
        "article", element("h3", text(f"Person {person}")), element("p", text(words)),
        element("ul", *tiles, class_="tiles"), class_="cluster",
    )  # fmt: skip


def _alone(people: People, rows: np.ndarray) -> str:
    shown = rows[:_MOST_ALONE]
    words = f"Images that share a group with no other: {len(rows)}"
    words += f", of which {len(shown)} are shown." if len(shown) < len(rows) else "."
    tiles = [_tile(people, row) for row in shown]
    return section("alone", "Alone", note(words), element("ul", *tiles, class_="tiles"))


def _tile(people: People, row: int) -> str:
    path, similarity = people.files[row], people.similarity[row]
    title = f"{path}\nsimilarity to the group {similarity:.2f}" if similarity else path
    return element("li", picture(thumb(path), path, width=_THUMB, title=title))
