"""From what a caller has (files, PIL images, arrays) to the pixels that a model sees."""

import collections
import io
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from sicl_jax.data.files import usable_cores
from sicl_jax.data.pixels import Form
from sicl_jax.errors import UserError
from tfds_builders.reid import images as stored_images
from tfds_builders.reid import tree
from tfds_builders.reid.problems import RawDataError

Picture = str | os.PathLike[str] | Image.Image | np.ndarray
"""A file, a PIL image, or an array (H, W, 3) or (H, W) of uint8."""

_MISSING = object()
_PORTION = 8  # Pictures that a thread decodes at a time.


def list_images(folder: str | os.PathLike[str]) -> list[str]:
    """Returns paths of all images below a folder, relative to it, sorted; no links out of it.

    Raises:
        UserError: It is no folder, or holds no image.
    """
    try:
        entries = tree.Tree(pathlib.Path(folder)).files()
    except RawDataError as error:
        raise UserError(f"{error}; give a folder of images") from error
    names = [entry.path for entry in entries if tree.is_image(entry)]
    if not names:
        endings = ", ".join(sorted(tree.IMAGE_SUFFIXES))
        raise UserError(f"{folder}: no images in this folder; they must end in {endings}")
    return names


def one_by_one(pictures: Picture | Iterable[Picture]) -> Iterable[Picture]:
    """Returns one picture, a stack (N, H, W, 3) or any iterable of pictures, as an iterable."""
    if isinstance(pictures, str | os.PathLike | Image.Image):
        return (pictures,)
    if isinstance(pictures, Iterable) and not hasattr(pictures, "ndim"):
        return pictures
    array = np.asarray(pictures)
    return (array,) if array.ndim <= 3 else array


def fitted_pixels(picture: Picture, form: Form) -> np.ndarray:
    """Returns a picture as the model sees it: turned upright and resized.

    Args:
        picture: A file, a PIL image or an array: (H, W, 3) or, of a mask, (H, W), where 0 is
            background.
        form: How it is resized. In all modes but `rgb` the picture is a mask.

    Returns:
        uint8 of `form.shape`.

    Raises:
        UserError: A file cannot be read or is no image; an array has another shape or type; a mask
            has no labels where the form asks for them.
    """
    if not isinstance(picture, str | os.PathLike):
        return form.fit(_pil(picture))
    if form.mode == "rgb":
        return form.fit(open_picture(picture))
    try:
        return form.decode(_mask_file(picture))
    except UserError as error:
        raise UserError(f"{picture}: {error}") from error


def decoded_batches(
    columns: Sequence[Iterable[Any]], readers: Sequence[Callable], batch_size: int
) -> Iterator[list[np.ndarray]]:
    """Yields batches of decoded pictures in order, made ahead by threads.

    Args:
        columns: Images, and perhaps their masks: as many of each, endless iterators too.
        readers: For each column, what decodes one of it; all results of a column have one shape.
        batch_size: B; the last batch may be smaller.

    Yields:
        For each column an array (B, ...).

    Raises:
        UserError: One column is longer than another.
    """
    rows = itertools.zip_longest(*columns, fillvalue=_MISSING)

    def decode(portion):
        return [
            [read(picture) for read, picture in zip(readers, row, strict=True)] for row in portion
        ]

    def portions():
        while portion := list(itertools.islice(rows, _PORTION)):
            if any(picture is _MISSING for row in portion for picture in row):
                raise UserError("there are not as many masks as images; give one for each")
            yield pool.submit(decode, portion)

    with ThreadPoolExecutor(usable_cores()) as pool:
        coming = portions()
        ahead = collections.deque(itertools.islice(coming, -(-2 * batch_size // _PORTION)))
        batch = []
        while ahead:
            batch += ahead.popleft().result()
            ahead.extend(itertools.islice(coming, 1))
            while len(batch) >= batch_size or (batch and not ahead):
                full, batch = batch[:batch_size], batch[batch_size:]
                yield [np.stack(column) for column in zip(*full, strict=True)]


def open_picture(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "H W 3"]:
    """Returns an image file's pixels, upright and of 8 bits, as data sets store them.

    Raises:
        UserError: It cannot be read, is no image, or is too large.
    """
    try:
        return stored_images.open_image(stored_images.read(os.fspath(path)))
    except stored_images.BadFileError as error:
        if pathlib.Path(path).is_dir():
            message = f"{path}: is a folder, not an image; list its images first"
            raise UserError(message) from error
        raise UserError(
            f"{path}: {error}; give JPEG, PNG, BMP, WebP, TIFF or GIF images"
        ) from error


def _mask_file(path: str | os.PathLike[str]) -> bytes:
    """Returns a mask file's bytes, its labels as they are."""
    try:
        data = stored_images.read(os.fspath(path))
        with Image.open(io.BytesIO(data)) as header:
            lies_on = stored_images.Picture(b"", header.size)
        return stored_images.check_mask(data, lies_on).data
    except stored_images.BadFileError as error:
        raise UserError(f"{path}: {error}; give PNG masks") from error
    except (OSError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: is not a PNG mask; give PNG masks") from error


def _pil(picture: Image.Image | np.ndarray) -> Image.Image:
    if isinstance(picture, Image.Image):
        return ImageOps.exif_transpose(picture)
    array = np.asarray(picture)
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not is_image or not array.size:
        raise UserError(
            f"an array of shape {array.shape} and type {array.dtype} is no picture; give uint8 "
            "of shape (height, width, 3) in RGB order, 0 to 255"
        )
    return Image.fromarray(array)
