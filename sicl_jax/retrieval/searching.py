"""Searching an index with images."""

import dataclasses
import pathlib

from sicl_jax.data.pictures import list_images
from sicl_jax.errors import UserError
from sicl_jax.evaluation.progress import MakeBar, silent
from sicl_jax.inference import Model
from sicl_jax.retrieval.folder import Beside, embed_folder
from sicl_jax.retrieval.index import GalleryIndex


@dataclasses.dataclass(frozen=True)
class Hit:
    """One image found.

    Attributes:
        path: Absolute path of the file.
        similarity: Product of the features: the cosine where they are unit rows.
    """

    path: str
    similarity: float


@dataclasses.dataclass(frozen=True)
class Found:
    """What a query found, most similar first.

    Attributes:
        query: Absolute path of the query.
        hits: At most as many as asked for; the query's own file is never among them.
    """

    query: str
    hits: tuple[Hit, ...]


def queries(path: pathlib.Path) -> tuple[pathlib.Path, list[str]]:
    """A folder, and the paths below it of the images that a query means.

    Raises:
        UserError: It is neither an image nor a folder with images.
    """
    if path.is_dir():
        return path, list_images(path)
    if not path.is_file():
        raise UserError(f"--query {path}: no such image or folder")
    return path.parent, [path.name]


def search(
    index: GalleryIndex,
    model: Model,
    query: pathlib.Path,
    *,
    beside: Beside = Beside(),  # noqa: B008 - frozen.
    top: int = 10,
    batch_size: int | None = None,
    progress: MakeBar = silent,
) -> list[Found]:
    """Searches with an image, or with each image below a folder.

    Args:
        index: Where to search; of this model (`build.check_model`).
        model: What embeds.
        query: An image or a folder.
        beside: What lies beside the query; for a single image also its mask or face itself.
        top: Number of images to find for each.
        batch_size: Images in a batch; the config's if None.
        progress: Makes a progress bar.

    Raises:
        UserError: The query is missing, no image, or an empty folder; or the index is empty.
    """
    if not len(index):
        raise UserError("the index is empty; add images to it first")
    folder, names = queries(query)
    embedded = embed_folder(
        model,
        folder,
        names=names,
        beside=beside,
        view=index.view,
        batch_size=batch_size,
        progress=progress,
    )
    hits = index.search(embedded.features, top + 1)  # The query itself may be one.
    found = []
    for name, rows, similarities in zip(names, hits.rows, hits.similarities, strict=True):
        path = str((folder / name).resolve())
        of_query = [
            Hit(index.entries[row].path, float(similarity))
            for row, similarity in zip(rows, similarities, strict=True)
            if row >= 0 and index.entries[row].path != path
        ]
        found.append(Found(path, tuple(of_query[:top])))
    return found
