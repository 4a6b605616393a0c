"""Writes pictures of drawn people as real JPEG and PNG files, with the quirks of real copies.

The people are drawn by the synthetic builder. Every tree has a stray `Thumbs.db` and
`.DS_Store`, an upper-case extension, a CMYK JPEG, a 16-bit PNG and a JPEG with an EXIF rotation
whose mask lies on the image as displayed.
"""

import dataclasses
import functools
import io
import itertools
import pathlib
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from sicl_jax.data.pixels import Form
from tfds_builders.synthetic_people import studio
from tfds_builders.synthetic_people.world import OUTFIT, Shot, World, splits_as_prcc

VALIDATION_PERSON = 7
CAMERAS = "ABC"
PER_CAMERA = 2
ORIENTATION = 0x0112
ROTATED = 6  # Displayed turned by 90 degrees clockwise.

_WORLD = World(
    height=48,
    width=24,
    train_people=3,
    test_people=3,
    splits=splits_as_prcc(train=18, query_same=6, query_changed=6, gallery=6),
)


@dataclasses.dataclass(frozen=True)
class Cast:
    """Who is in a tree."""

    train: tuple[int, ...] = (1, 2, 3)
    test: tuple[int, ...] = (4, 5, 6)


CAST = Cast()


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A picture of a person: camera is 0, 1, 2; clothes 0 or 1 within the identity."""

    identity: int
    camera: int
    number: int
    image: Image.Image
    mask: Image.Image

    @property
    def clothes(self) -> int:
        return OUTFIT[CAMERAS[self.camera]]


class Labels(NamedTuple):
    """The labels of an image: clothes within the identity; -1 where the data set has none."""

    identity: int
    camera: int
    clothes: int = -1
    tracklet: int = -1
    modality: int = -1


@dataclasses.dataclass
class RawTree:
    """What was written.

    Attributes:
        raw: the raw folder.
        masks: the mask folder.
        labels: by split and path below `raw`.
        pictures: by path, what was drawn.
    """

    raw: pathlib.Path
    masks: pathlib.Path
    labels: dict[str, dict[str, Labels]] = dataclasses.field(default_factory=dict)
    pictures: dict[str, Drawn] = dataclasses.field(default_factory=dict)


@functools.cache
def people(identities: tuple[int, ...]) -> tuple[Drawn, ...]:
    """Two pictures of each person by each camera."""
    shots = itertools.product(identities, range(len(CAMERAS)), range(PER_CAMERA))
    return tuple(draw(*shot) for shot in shots)


def draw(identity: int, camera: int, number: int) -> Drawn:
    shot = Shot("train", identity - 1, CAMERAS[camera], number)
    image, mask = (Image.open(io.BytesIO(file)) for file in studio.develop(_WORLD, shot).values())
    return Drawn(identity, camera, number, image.convert("RGB"), mask.convert("L"))


class Writer:
    """Puts pictures into a tree, some of them in an odd way."""

    def __init__(self, folder: pathlib.Path, *, mask_kind: str, extension: str = ".jpg"):
        self.tree = RawTree(folder / "raw", folder / "masks")
        self._mask_kind = mask_kind
        self._extension = extension
        self._written = 0

    def add(self, split: str, stem: str, drawn: Drawn, labels: Labels) -> str:
        """Writes an image and its mask; gives the image's path below the raw folder."""
        odd = {1: _write_cmyk, 2: _write_16_bits, 3: _write_rotated, 4: _write_upper_case}
        write = odd.get(self._written, write_plain)
        self._written += 1
        path = write(self.tree.raw / f"{stem}{self._extension}", drawn.image)
        name = path.relative_to(self.tree.raw).as_posix()
        write_mask(self.tree.masks / f"{stem}.png", drawn.mask, self._mask_kind)
        self.tree.labels.setdefault(split, {})[name] = labels
        self.tree.pictures[name] = drawn
        return name

    def finish(self) -> RawTree:
        for folder in {(self.tree.raw / name).parent for name in self.tree.pictures}:
            (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
            (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        return self.tree


def write(path: pathlib.Path, data: bytes) -> pathlib.Path:
    """Writes a file, making its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_plain(path: pathlib.Path, image: Image.Image) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)
    return path


def _write_cmyk(path: pathlib.Path, image: Image.Image) -> pathlib.Path:
    path = path.with_suffix(".jpg")
    return write_plain(path, image.convert("CMYK"))


def _write_16_bits(path: pathlib.Path, image: Image.Image) -> pathlib.Path:
    path = path.with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    # 256 v + 255 - v: a reader that keeps the lower byte shows the negative.
    values = np.asarray(image).astype(np.uint16)
    cv2.imwrite(str(path), (values * 256 + 255 - values)[..., ::-1])
    return path


def _write_rotated(path: pathlib.Path, image: Image.Image) -> pathlib.Path:
    path = path.with_suffix(".jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED
    image.transpose(Image.Transpose.ROTATE_90).save(path, quality=95, exif=exif)
    return path


def _write_upper_case(path: pathlib.Path, image: Image.Image) -> pathlib.Path:
    return write_plain(path.with_suffix(path.suffix.upper()), image)


def write_mask(path: pathlib.Path, mask: Image.Image, kind: str) -> None:
    """Writes a mask: `binary` (one bit), `grey` (0 and 255) or `palette` (parts, as SCHP's)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(mask) > 0
    if kind == "binary":
        Image.fromarray(values).save(path)
    elif kind == "grey":
        Image.fromarray(np.where(values, np.uint8(255), np.uint8(0))).save(path)
    else:
        parts = Image.fromarray(part_labels(values)).convert("P")
        parts.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
        parts.save(path)


def forms(size: tuple[int, int], mode: str = "silhouette") -> dict[str, Form]:
    """Images and masks of one size."""
    return {"image": Form(size), "mask": Form(size, mode=mode)}


def part_labels(person: np.ndarray) -> np.ndarray:
    """Three parts of a person from top to bottom, 1 to 3; 0 is background."""
    thirds = np.arange(person.shape[0]) * 3 // person.shape[0] + 1
    return np.where(person, thirds[:, None], 0).astype(np.uint8)


def in_three_folders(
    writer: Writer, cast: Cast, folders: tuple[str, str, str], name, labels
) -> None:
    """Training people to the first folder; each camera's first picture of a test person is a
    query."""
    splits = ("train", "query", "gallery")
    for p in (*people(cast.train), *people(cast.test)):
        place = 0 if p.identity in cast.train else 1 + p.number
        writer.add(splits[place], f"{folders[place]}/{name(p)}", p, labels(p, place))


def write_faces(folder: pathlib.Path, names: tuple[str, str], path: str, drawn: Drawn) -> None:
    """Writes the face of a picture, and the same enlarged, as JPEG files."""
    face = drawn.image.crop((6, 2, 18, 14))
    sizes = ((12, 12), (48, 48))
    for name, size in zip(names, sizes, strict=True):
        write_plain((folder / name / path).with_suffix(".jpg"), face.resize(size))
