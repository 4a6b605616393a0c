"""Long lists over several pages: what searches found, and the people of an index."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sicl_jax.console import counted
from sicl_jax.report import ranked
from sicl_jax.report.document import document, element, evenly, note, picture, section, text, thumb
from sicl_jax.report.marks import Mark
from sicl_jax.retrieval.people import ALONE, People
from sicl_jax.retrieval.searching import Found

# ---- searches ------------------------------------------------------------------------------

_QUERIES_A_PAGE = 25  # A page holds all of its pictures, some 40 KB a query.


def search_pages(
    found: Sequence[Found], about: str, file: pathlib.Path, *, by_folder: bool = False
) -> Iterator[tuple[pathlib.Path, str]]:
    """The pages of some queries' results, each with the file to write it to.

    Args:
        found: What each query found.
        about: A line about the index and the model.
        file: The first page; further ones lie beside it as `NAME-2.html` and so on.
        by_folder: Whether the name of an image's folder is its person; matches are then marked.

    Raises:
        UserError: A query's image can no longer be read.
    """
    for path, shown, links in in_pages(file, found, _QUERIES_A_PAGE):
        lines, marks = [], set()
        for result in shown:
            hits = []
            for hit in result.hits:
                mark = _mark(result.query, hit.path) if by_folder else Mark.UNKNOWN
                image = thumb(hit.path)
                hits.append(ranked.Found(image, hit.path, mark, f"{hit.similarity:.3f}"))
                marks.add(mark)
            lines.append(ranked.ranked_line(thumb(result.query), result.query, hits))
        notes = [note("The number under an image is its cosine similarity to the query.")]
        if by_folder:
            notes.append(ranked.key(sorted(marks, key=list(Mark).index)))
        title = f"Queries: {len(found)}"
        content = section("results", title, *notes, links, *lines, links)
        yield path, document("Search results", about, content)


def _mark(query: str, path: str) -> Mark:
    same = pathlib.Path(query).parent.name == pathlib.Path(path).parent.name
    return Mark.SAME_PERSON if same else Mark.OTHER_PERSON


# ---- people --------------------------------------------------------------------------------

_GROUPS_A_PAGE = 40
_MOST_MEMBERS, _MOST_ALONE = 24, 240
_MEMBER_WIDTH = 48


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
    tiles = [_tile(people, row) for row in rows[evenly(len(rows), _MOST_MEMBERS)]]
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
    return element("li", picture(thumb(path), path, width=_MEMBER_WIDTH, title=title))


# ---- pages ---------------------------------------------------------------------------------


def in_pages(
    file: pathlib.Path, items: Sequence[Any], size: int
) -> Iterator[tuple[pathlib.Path, Sequence[Any], str]]:
    """Pages of at most `size` items: the file, its items, and links to all pages.

    The links are empty where one page holds all.

    Args:
        file: The first page; those after it are `NAME-2.html` and so on.
        items: What is to be shown; no items are one empty page.
        size: Items of a page.
    """
    count = max(1, -(-len(items) // size))
    files = [file, *(file.with_stem(f"{file.stem}-{n}") for n in range(2, count + 1))]
    for number, path in enumerate(files):
        shown = items[number * size : (number + 1) * size]
        yield path, shown, _links(files, number, size, len(items)) if count > 1 else ""


def _links(files: Sequence[pathlib.Path], now: int, size: int, total: int) -> str:
    links = []
    for number, file in enumerate(files):
        words = f"{number * size + 1} to {min((number + 1) * size, total)}"
        if number == now:
            links.append(element("strong", text(words), aria_current="page"))
        else:
            links.append(element("a", text(words), href=file.name))
    return element("nav", *links, class_="pages", aria_label="Pages")
