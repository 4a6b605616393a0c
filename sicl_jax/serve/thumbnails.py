"""Thumbnails, made once and kept in the index's folder."""

import io
import pathlib
import threading
from collections.abc import Collection

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sicl_jax.data.files import atomic_file
from sicl_jax.data.pictures import open_picture
from sicl_jax.errors import UserError
from sicl_jax.retrieval.index import Entry
from sicl_jax.serve.problems import ApiError

FOLDER = "thumbnails"
SIZES = {"small": (128, 256), "large": (512, 1024)}
_QUALITY = 85
_AT_A_TIME = 4  # Pictures decoded at once: 50 MB each at most.


class Thumbnails:
    """JPEG files by image and size.

    Args:
        index_folder: Of the index.
    """

    def __init__(self, index_folder: pathlib.Path):
        self._folder = index_folder / FOLDER
        self._writing = threading.Lock()
        self._turns = threading.Semaphore(_AT_A_TIME)

    def get(self, name: str, entry: Entry, size: str) -> bytes:
        """A picture's thumbnail.

        Args:
            name: The image's id.
            entry: Its file.
            size: A key of `SIZES`.

        Raises:
            ApiError: The picture is gone, or cannot be read.
        """
        file = self._folder / name[:2] / f"{name}-{entry.changed}-{size}.jpg"
        try:
            return file.read_bytes()
        except OSError:
            pass
        with self._turns:
            try:
                data = _reduced(open_picture(entry.path), SIZES[size])
            except UserError as error:
                raise ApiError(404, "the picture is gone or can no longer be read") from error
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with self._writing, atomic_file(file) as draft:
                draft.write(data)
        except OSError:  # A full disk, say: it is made again the next time.
            pass
        return data

    def forget_others(self, names: Collection[str]) -> int:
        """Removes the thumbnails of images that are not among these; returns how many."""
        removed = 0
        for file in self._folder.glob("??/*.jpg"):
            if file.name.partition("-")[0] not in names:
                file.unlink(missing_ok=True)
                removed += 1
        return removed


def _reduced(pixels: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> bytes:
    picture = Image.fromarray(pixels)
    picture.thumbnail(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
