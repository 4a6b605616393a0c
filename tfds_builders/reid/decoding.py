"""Decoding an image and its mask once, to know that they are good: the scan's inner loop."""

import dataclasses

from tfds_builders.reid import images
from tfds_builders.reid.digest import content_digest

_UPRIGHT = 1


@dataclasses.dataclass(frozen=True)
class File:
    """A good file.

    Attributes:
        path: where it is.
        digest: hash of what is stored of it.
        changed: whether what is stored differs from the file.
        size: width and height of what is stored; only of an image.
        orientation: the EXIF orientation that is undone; only of an image.
    """

    path: str
    digest: bytes
    changed: bool
    size: tuple[int, int] | None = None
    orientation: int = _UPRIGHT


@dataclasses.dataclass(frozen=True)
class Checked:
    """What became of an image and its mask.

    Attributes:
        image: the image, or None if it is bad.
        mask: the mask, or None if it is bad or there is none.
        image_problem: what is wrong with the image.
        mask_problem: what is wrong with the mask.
        empty: whether the mask is all background.
    """

    image: File | None = None
    mask: File | None = None
    image_problem: str = ""
    mask_problem: str = ""
    empty: bool = False


def check_pairs(pairs: list[tuple[str, str | None]]) -> list[Checked]:
    """Checks images with their masks, given as paths."""
    return [_check_pair(*pair) for pair in pairs]


def _check_pair(image_path: str, mask_path: str | None) -> Checked:
    try:
        picture = images.check_image(images.read(image_path))
    except images.BadFileError as error:
        return Checked(image_problem=str(error))
    image = _file(image_path, picture)
    if mask_path is None:
        return Checked(image)
    try:
        mask = images.check_mask(images.read(mask_path), picture)
    except images.BadFileError as error:
        return Checked(image, mask_problem=str(error))
    return Checked(image, _file(mask_path, mask), empty=mask.empty)


def _file(path: str, picture: images.Picture) -> File:
    digest = content_digest(picture.data)
    return File(path, digest, picture.changed, picture.size, picture.orientation)


def stored_image(file: File) -> bytes:
    """What is stored of an image.

    Raises:
        BadFileError: it is no longer what it was when it was checked.
    """
    data = images.read(file.path)
    return _unchanged(images.check_image(data).data if file.changed else data, file)


def stored_mask(file: File, image: File) -> bytes:
    """What is stored of the mask of an image.

    Raises:
        BadFileError: it is no longer what it was when it was checked.
    """
    data = images.read(file.path)
    if file.changed:
        lies_on = images.Picture(b"", image.size, image.orientation)
        data = images.check_mask(data, lies_on).data
    return _unchanged(data, file)


def _unchanged(data: bytes, file: File) -> bytes:
    if content_digest(data) != file.digest:
        raise images.BadFileError("has changed since it was checked")
    return data
