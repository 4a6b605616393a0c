"""Search results as a page: each query with what was found for it."""

import pathlib
from collections.abc import Sequence

from PIL import Image, ImageOps

from sicl_jax.errors import UserError
from sicl_jax.report import document, ranked
from sicl_jax.report.marks import Mark
from sicl_jax.retrieval.searching import Found

MOST_QUERIES = 200
"""Queries on a page; it holds all pictures, some 40 KB a query."""


def search_page(found: Sequence[Found], about: str, *, by_folder: bool = False) -> str:
    """The page of some queries' results.

    Args:
        found: What each query found.
        about: A line about the index and the model.
        by_folder: Whether the name of an image's folder is its person; matches are then marked.

    Raises:
        UserError: A query's image can no longer be read.
    """
    shown = found[:MOST_QUERIES]
    lines, marks = [], set()
    for result in shown:
        hits = []
        for hit in result.hits:
            mark = _mark(result.query, hit.path) if by_folder else Mark.UNKNOWN
            hits.append(ranked.Found(_thumb(hit.path), hit.path, mark, f"{hit.similarity:.3f}"))
            marks.add(mark)
        lines.append(ranked.ranked_line(_thumb(result.query), result.query, hits))
    notes = [document.note("The number under an image is its cosine similarity to the query.")]
    if by_folder:
        notes.append(ranked.key(sorted(marks, key=list(Mark).index)))
    if len(shown) < len(found):
        notes.append(document.banner(f"The first {len(shown)} of {len(found)} queries."))
    content = document.section("results", f"Queries: {len(shown)}", *notes, *lines)
    return document.document("Search results", about, content)


def _mark(query: str, path: str) -> Mark:
    same = pathlib.Path(query).parent.name == pathlib.Path(path).parent.name
    return Mark.SAME_PERSON if same else Mark.OTHER_PERSON


def _thumb(path: str) -> Image.Image:
    """An image of at most the page's width; a grey one where a file found is gone."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (4 * document.THUMB_WIDTH, 8 * document.THUMB_WIDTH))
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        return Image.new("RGB", (document.THUMB_WIDTH, 2 * document.THUMB_WIDTH), "#888888")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read any more ({error}); index its folder anew"
        ) from error
    return upright.resize(
        (document.THUMB_WIDTH, 2 * document.THUMB_WIDTH), Image.Resampling.BICUBIC
    )
