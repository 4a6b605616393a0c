"""Searching an index with images."""

import dataclasses
import pathlib

import numpy as np
from jaxtyping import Float32

from sicl_jax.data.pictures import list_images
from sicl_jax.errors import UserError
from sicl_jax.evaluation.progress import MakeBar, silent
from sicl_jax.inference import Model
from sicl_jax.retrieval.facts import Where
from sicl_jax.retrieval.folder import Beside, embed_folder
from sicl_jax.retrieval.index import GalleryIndex, Hit


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
    where: Where = Where(),  # noqa: B008 - frozen.
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
        where: Which images may be found.
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
    paths = [str((folder / name).resolve()) for name in names]
    hits = index.find(embedded.features, top, where=where, without=[{path} for path in paths])
    return [Found(path, tuple(of_query)) for path, of_query in zip(paths, hits, strict=True)]


def steered(
    same: Float32[np.ndarray, "P D"], not_same: Float32[np.ndarray, "N D"]
) -> Float32[np.ndarray, "1 D"]:
    """One query of several images, after J. Rocchio's relevance feedback (1971).

        q = mean(same) - PUSH * mean(not_same), scaled to the mean length of `same`

    Args:
        same: Features of images of the person who is looked for; at least one.
        not_same: Of images that show somebody else.
    """
    query = same.mean(axis=0)
    if len(not_same):
        query = query - PUSH * not_same.mean(axis=0)
    length = np.linalg.norm(query)
    if len(same) > 1 or len(not_same):
        wanted = np.linalg.norm(same, axis=1).mean()
        query = query * (wanted / length) if length > 0 else same[0]
    return query[None].astype(np.float32)


PUSH = 0.5
"""How far images of others push a query away; 1 would be as far as its own pull it."""
