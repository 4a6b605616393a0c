"""Which images a data set has, with what labels, masks and faces; without opening any of them."""

import collections
import dataclasses
import hashlib
import pathlib
from collections.abc import Collection, Mapping

from tfds_builders.reid.features import LABELS, PICTURES
from tfds_builders.reid.layout import TRAIN, Found, Source
from tfds_builders.reid.problems import NO_IMAGE, NO_MASK, Problem, RawDataError
from tfds_builders.reid.tree import Entry, Tree, is_image

BESIDE = tuple(picture for picture in PICTURES if picture != "image")
"""Columns of pictures that lie in folders of their own, beside the images."""

SHOWN_AS = {"mask": "masks", "face": "faces", "face_restored": "restored_faces"}
"""How paths in these folders begin in problems."""


@dataclasses.dataclass(frozen=True)
class Listing:
    """What lies in the raw folders.

    Attributes:
        source: The data set's description.
        raw: The raw folder.
        beside: The folders of masks, faces and restored faces that there are, by column.
        images: Each image, and the files that belong to it, by column.
        problems: What is wrong so far.
        warnings: What is odd but no error.
        digest: Hash of all labels, and of all files' paths, sizes and change times.
    """

    source: Source
    raw: pathlib.Path
    beside: dict[str, pathlib.Path]
    images: list[tuple[Found, dict[str, Entry]]]
    problems: list[Problem]
    warnings: list[str]
    digest: str


def find(
    source: Source,
    raw: str | pathlib.Path,
    beside: Mapping[str, str | pathlib.Path] | None = None,
    *,
    columns: Collection[str] = BESIDE,
) -> Listing:
    """Lists the images of a data set and the pictures that belong to each.

    Args:
        source: The data set's description.
        raw: The raw folder.
        beside: Folders of masks (`mask`), faces (`face`) and restored faces (`face_restored`):
            trees with the images' paths, but for the extension. Those that are not given are looked
            for in the raw folder, where the source says.
        columns: Which of them to look for.

    Raises:
        RawDataError: A folder is missing or empty, or holds pictures of other images.
    """
    tree = Tree(raw)
    found, noted, warnings = source.find(tree)
    if not found and not noted and not tree.problems:
        raise RawDataError(f"{tree.root} holds no images; is it the right folder?")
    folders = {
        column: tree.root / folder for column, folder in source.beside.items() if tree.has(folder)
    }
    folders = {key: path for key, path in (folders | dict(beside or {})).items() if key in columns}
    if "mask" in columns and "mask" not in folders:
        warnings.append("there are no masks: only training without silhouettes is possible")
    images: list[tuple[Found, dict[str, Entry]]] = [(image, {}) for image in found]
    roots = {}
    for column, folder in folders.items():
        other = Tree(folder, shown_as=f"{SHOWN_AS[column]}/")
        roots[column] = other.root
        left = _match(source, column, other, images)
        if column == "mask":
            noted += _without_image(source, left, tree)
            if source.needs_masks:
                noted += [
                    Problem(image.entry.path, NO_MASK, "a training image needs one")
                    for image, files in images
                    if "mask" not in files and image.split == TRAIN
                ]
        else:
            warnings += _lacking(column, images, len(left))
        noted += other.problems
    noted += tree.problems
    return Listing(source, tree.root, roots, images, sorted(noted), warnings, _state(images))


def _match(
    source: Source, column: str, tree: Tree, images: list[tuple[Found, dict[str, Entry]]]
) -> list[Entry]:
    """Adds to each image its picture of a column; returns the pictures that none has.

    Raises:
        RawDataError: There is none, or not one belongs to an image.
    """
    word = SHOWN_AS[column].replace("_", " ")
    by_stem: dict[str, Entry] = {}
    pictures = [entry for entry in tree.files() if is_image(entry)]
    for entry in pictures:
        if entry.stem not in by_stem or entry.suffix == ".png":
            by_stem[entry.stem] = entry
    if not by_stem:
        raise RawDataError(f"{tree.root} holds no {word}; leave it out if there are none")
    for image, files in images:
        if (entry := by_stem.get(source.key(image.entry))) is not None:
            files[column] = entry
    used = {files[column].path for _, files in images if column in files}
    if images and not used:
        expected = tree.root / f"{source.key(images[0][0].entry)}.png"
        raise RawDataError(
            f"{tree.root} has no {word.removesuffix('s')} for any image; expected {expected} and "
            "so on"
        )
    return [entry for entry in pictures if entry.path not in used]


def _without_image(source: Source, left: list[Entry], raw: Tree) -> list[Problem]:
    """Finds masks without an image file; not those of images left out for other reasons."""
    root = raw.root / source.images_in
    stems_by_folder = collections.defaultdict(set)
    for folder in {entry.folder for entry in left}:
        if (root / folder).is_dir():
            stems_by_folder[folder] = {path.stem for path in (root / folder).iterdir()}
    return [
        Problem(f"masks/{entry.path}", NO_IMAGE, "a mask without an image", left_out="mask")
        for entry in left
        if pathlib.PurePosixPath(entry.path).stem not in stems_by_folder[entry.folder]
    ]


def _lacking(column: str, images: list[tuple[Found, dict[str, Entry]]], left: int) -> list[str]:
    """Returns lines on images without a face, and on faces without an image."""
    word = SHOWN_AS[column].replace("_", " ")
    counts = collections.Counter(image.split for image, _ in images)
    lacking = collections.Counter(image.split for image, files in images if column not in files)
    lines = [
        f"{split}: {number} of {counts[split]} images have no {word.removesuffix('s')}"
        for split, number in lacking.items()
    ]
    return lines + ([f"{left} {word} belong to no image, left alone"] if left else [])


def _state(images: list[tuple[Found, dict[str, Entry]]]) -> str:
    state = hashlib.blake2b(digest_size=16)
    for image, files in images:
        labels = [getattr(image, label) for label in LABELS]
        state.update(f"{image.split} {labels} {image.entry} {sorted(files.items())}\n".encode())
    return state.hexdigest()
