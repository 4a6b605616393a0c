"""Search results as pages: each query with what was found for it."""

import pathlib
from collections.abc import Iterator, Sequence

from sicl_jax.report import document, ranked
from sicl_jax.report.marks import Mark
from sicl_jax.report.paging import in_pages
from sicl_jax.retrieval.searching import Found

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
                image = document.thumb(hit.path)
                hits.append(ranked.Found(image, hit.path, mark, f"{hit.similarity:.3f}"))
                marks.add(mark)
            lines.append(ranked.ranked_line(document.thumb(result.query), result.query, hits))
        notes = [document.note("The number under an image is its cosine similarity to the query.")]
        if by_folder:
            notes.append(ranked.key(sorted(marks, key=list(Mark).index)))
        title = f"Queries: {len(found)}"
        content = document.section("results", title, *notes, links, *lines, links)
        yield path, document.document("Search results", about, content)


def _mark(query: str, path: str) -> Mark:
    same = pathlib.Path(query).parent.name == pathlib.Path(path).parent.name
    return Mark.SAME_PERSON if same else Mark.OTHER_PERSON
