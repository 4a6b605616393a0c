"""Long lists over several pages, files beside one another that link to each other."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from sicl_jax.report.document import element, text


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
