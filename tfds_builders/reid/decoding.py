"""Decoding an image, its mask and faces once, to know that they are good: the scan's inner loop."""

import dataclasses
from collections.abc import Mapping

from tfds_builders.reid import images
from tfds_builders.reid.digest import content_digest

_UPRIGHT = 1


@dataclasses.dataclass(frozen=True)
class File:
    """A good file.

    Attributes:
        path: Where it is.
        digest: Hash of what is stored of it.
        changed: Whether what is stored differs from the file.
        size: Width and height of what is stored.
        orientation: The EXIF orientation that is undone.
    """

    path: str
    digest: bytes
    changed: bool
    size: tuple[int, int]
    orientation: int = _UPRIGHT


@dataclasses.dataclass(frozen=True)
class Checked:
    """What became of an image and of what belongs to it.

    Attributes:
        files: The good ones by column.
        problems: What is wrong with the others. Where the image is bad nothing else is looked at.
        empty: Whether the mask is all background.
    """

    files: dict[str, File] = dataclasses.field(default_factory=dict)
    problems: dict[str, str] = dataclasses.field(default_factory=dict)
    empty: bool = False


def check_all(examples: list[Mapping[str, str]], lossy_masks: bool = False) -> list[Checked]:
    """Checks the files of some examples.

    Args:
        examples: The path of each file by column, of the image at least.
        lossy_masks: As for `images.check_mask`.
    """
    return [_check(paths, lossy_masks) for paths in examples]


def _check(paths: Mapping[str, str], lossy_masks: bool) -> Checked:
    files, problems = {}, {}
    image = images.Picture(b"", (0, 0))
    empty = False
    for column in ("image", *(column for column in paths if column != "image")):
        try:
            data = images.read(paths[column])
            if column == "mask":
                picture = images.check_mask(data, image, lossy=lossy_masks)
                empty = picture.empty
            else:
                picture = images.check_image(data)
        except images.BadFileError as error:
            problems[column] = str(error)
            if column == "image":
                break
            continue
        if column == "image":
            image = picture
        files[column] = File(
            paths[column],
            content_digest(picture.data),
            picture.changed,
            picture.size,
            picture.orientation,
        )
    return Checked(files, problems, empty)


def stored(column: str, files: Mapping[str, File], lossy_masks: bool = False) -> bytes:
    """Returns what is stored of one of an example's files.

    Args:
        column: Which one.
        files: All of them.
        lossy_masks: As for `images.check_mask`.

    Raises:
        BadFileError: It is no longer what it was when it was checked.
    """
    file = files[column]
    data = images.read(file.path)
    if file.changed and column == "mask":
        lies_on = images.Picture(b"", files["image"].size, files["image"].orientation)
        data = images.check_mask(data, lies_on, lossy=lossy_masks).data
    elif file.changed:
        data = images.check_image(data).data
    if content_digest(data) != file.digest:
        raise images.BadFileError("has changed since it was checked")
    return data
