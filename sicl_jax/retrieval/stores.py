"""Where an index is: in a folder (faiss), or in Milvus."""

import pathlib

from sicl_jax.errors import UserError
from sicl_jax.retrieval.folder import View
from sicl_jax.retrieval.index import GalleryIndex, is_index

Place = pathlib.Path | str
"""A folder, or an address that begins with `milvus://`."""


def is_milvus(place: Place) -> bool:
    """Whether an index is in Milvus."""
    return isinstance(place, str) and place.startswith("milvus://")


def open_if_any(place: Place):
    """The index at a place; None if there is none yet.

    Raises:
        UserError: It is damaged, or cannot be reached.
    """
    if is_milvus(place):
        from sicl_jax.retrieval.milvus import MilvusIndex

        return MilvusIndex.open(place)
    return GalleryIndex.open(place) if is_index(place) else None


def open_index(place: Place):
    """The index at a place.

    Raises:
        UserError: There is none, it is damaged, or cannot be reached.
    """
    if not is_milvus(place):
        return GalleryIndex.open(place)
    index = open_if_any(place)
    if index is None:
        raise UserError(f"--index {place}: no images here; add some with `sicl-jax index`")
    return index


def parts(place: Place) -> list[pathlib.Path]:
    """Indexes of a folder's index that several processes have made and that are not yet in it."""
    return [] if is_milvus(place) else [path for path in place.glob("part-*") if is_index(path)]


def part(place: Place, number: int) -> Place:
    """Where one of several processes adds images; Milvus takes all of them at once."""
    return place if is_milvus(place) else place / f"part-{number:04d}"


def create(place: Place, model: dict, view: View, dimensions: int, camera: str | None):
    """An empty index, to be saved at a place."""
    if is_milvus(place):
        from sicl_jax.retrieval.milvus import MilvusIndex

        return MilvusIndex(place, model, view, dimensions, camera)
    return GalleryIndex(model, view, dimensions, camera)
