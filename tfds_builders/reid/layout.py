"""How a data set lies on disk, as a table; and finding its images and labels by that table."""

import abc
import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from tfds_builders.reid.features import UNKNOWN
from tfds_builders.reid.problems import BAD_NAME, NO_IMAGE, Problem, RawDataError
from tfds_builders.reid.tree import Entry, Tree, is_image, left_alone

TRAIN = "train"
"""The split that is trained on."""


@dataclasses.dataclass(frozen=True)
class Found:
    """An image of the raw data with its labels.

    Attributes:
        split: The split it goes to.
        entry: Its file.
        identity: Person, -1 unknown.
        camera: Camera, -1 unknown.
        clothes: Outfit, meaningful only beside the identity; -1 unknown.
        tracklet: Video snippet, -1 unknown.
        modality: `VISIBLE` or `INFRARED`, -1 unknown.
    """

    split: str
    entry: Entry
    identity: int = UNKNOWN
    camera: int = UNKNOWN
    clothes: int = UNKNOWN
    tracklet: int = UNKNOWN
    modality: int = UNKNOWN


@dataclasses.dataclass(frozen=True)
class Published:
    """A split's published size, to say when a copy is incomplete; None where none is given."""

    images: int
    identities: int | None = None


class Source(abc.ABC):
    """A data set's description: where its files lie, and what their labels are.

    Attributes:
        title: The data set's name as people write it.
        published: Published sizes of splits.
        numbering_may_restart: Whether test persons may bear the numbers of training persons without
            being them. It is so taken only where all do.
        images_in: Folder below the raw folder that paths in the other folders leave out.
        beside: Folders below the raw folder of pictures that belong to the images, by column: where
            they are looked for if no others are given.
        needs_masks: Whether, where there are masks, every training image needs one.
        lossy_masks: As for `images.check_mask`.
    """

    title: str
    published: Mapping[str, Published]
    numbering_may_restart: bool = False
    images_in = ""
    beside: ClassVar[Mapping[str, str]] = {
        "mask": "masks",
        "face": "faces",
        "face_restored": "restored_faces",
    }
    needs_masks = True
    lossy_masks = False

    @abc.abstractmethod
    def find(self, tree: Tree) -> tuple[list[Found], list[Problem], list[str]]:
        """Lists the images of all splits.

        Returns:
            Images; problems (names that do not parse, listed images that are not there); and lines
            that warn of what is no error.

        Raises:
            RawDataError: Folders are missing or hold no image.
        """

    def notes(self, raw: pathlib.Path, splits: Mapping[str, Sequence[str]]) -> dict[str, Any]:  # noqa: ARG002
        """What the test needs beside images and labels, to be noted in the metadata; nothing.

        Args:
            raw: The raw folder.
            splits: Paths below it of the images of each split, as they are written.

        Returns:
            `changing_identities`, a list; `draws`, by split a list of trials, each a list with the
            place of every image in the trial's order of its person and camera, from 0; -1 for
            an image that the trial does not order.

        Raises:
            RawDataError: A file is not what it should be.
        """
        return {}

    def key(self, image: Entry) -> str:
        """Returns the path of what belongs to an image, without the extension."""
        return image.stem.removeprefix(f"{self.images_in}/" if self.images_in else "")

    def is_beside(self, path: str) -> bool:
        """Returns whether a path below the raw folder is that of a mask or a face."""
        return path.startswith(tuple(f"{folder}/" for folder in self.beside.values()))


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder of the raw data that makes up a split.

    Attributes:
        split: The split.
        path: Below the raw folder.
        name: Pattern of a whole path below the folder, for `read_labels`.
        listing: File below the raw folder with a line `name,tracklet` for each image; images that
            it does not list are left out.
        optional: Whether the folder may be absent.
        junk: Pattern of names that the data set's authors do not count; left alone without a word.
        labels: Labels that hold for the whole folder.
        published: The split's size as published.
    """

    split: str
    path: str
    name: str
    listing: str | None = None
    optional: bool = False
    junk: str = ""
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    published: Published | None = None


@dataclasses.dataclass(frozen=True)
class Layout(Source):
    """A data set's folders.

    Attributes:
        title: The data set's name as people write it.
        folders: The folders; a split has one.
        adjust: Changes the labels found in a path, for labels that follow from others.
        own_clothes: Whether every image counts as an outfit of its own.
        review: Looks at all images and gives lines that warn, where a data set has more to compare.
        numbering_may_restart: See `Source`.
    """

    title: str
    folders: tuple[Folder, ...]
    adjust: Callable[[dict[str, int]], dict[str, int]] = lambda labels: labels
    own_clothes: bool = False
    review: Callable[[Tree, list[Found]], list[str]] = lambda tree, found: []  # noqa: ARG005
    numbering_may_restart: bool = False

    @property
    def published(self) -> dict[str, Published]:
        """Published sizes of splits."""
        return {folder.split: folder.published for folder in self.folders if folder.published}

    def find(self, tree: Tree) -> tuple[list[Found], list[Problem], list[str]]:
        """Lists images, problems and warnings; see `Source`."""
        self._require_folders(tree)
        finder = _Finder(tree, self)
        for folder in self.folders:
            if tree.has(folder.path):
                finder.look_into(folder)
        finder.warnings += self.review(tree, finder.found)
        return finder.found, finder.problems, finder.warnings

    def _require_folders(self, tree: Tree) -> None:
        missing = [f.path for f in self.folders if not f.optional and not tree.has(f.path)]
        if not missing:
            return
        message = f"{tree.root} has no folder {', '.join(missing)}"
        near = [tree.root.parent, *sorted(p for p in tree.root.iterdir() if p.is_dir())]
        for other in near:
            if all((other / folder).is_dir() for folder in missing):
                raise RawDataError(f"{message}; did you mean {other}?")
        raise RawDataError(f"{message}; give the folder that holds {self.title}'s files")


class _Finder:
    """Collects what the folders of one layout hold."""

    def __init__(self, tree: Tree, layout: Layout):
        self._tree = tree
        self._layout = layout
        self.found: list[Found] = []
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def look_into(self, folder: Folder) -> None:
        entries = self._tree.files(folder.path)
        images = [entry for entry in entries if is_image(entry)]
        if not images and not folder.optional:
            raise RawDataError(
                f"{self._tree.root / folder.path} holds no images; is the copy complete?"
            )
        self.warnings += left_alone(entries, f"{folder.path}: ")
        tracklets = self._tracklets(folder, images) if folder.listing else None
        pattern, junk = re.compile(folder.name), re.compile(folder.junk)
        for entry in images:
            below = entry.path.removeprefix(folder.path + "/")
            if tracklets is not None and below not in tracklets:
                continue
            labels = read_labels(pattern, below)
            if labels is None and folder.junk and read_labels(junk, below) is not None:
                continue
            if labels is None:
                self.problems.append(
                    Problem(entry.path, BAD_NAME, f"name is not as {self._layout.title} has them")
                )
                continue
            labels |= folder.labels
            if self._layout.own_clothes:
                labels["clothes"] = len(self.found)
            if tracklets is not None:
                labels["tracklet"] = tracklets[below]
            self.found.append(Found(folder.split, entry, **self._layout.adjust(labels)))

    def _tracklets(self, folder: Folder, images: list[Entry]) -> dict[str, int]:
        """Reads a folder's listing: tracklet of each image."""
        tracklets = {}
        for number, line in enumerate(self._tree.lines(folder.listing), 1):
            match = re.fullmatch(r"\s*([^,]{1,255}?)\s*,\s*(\d{1,9})\s*", line)
            if match:
                tracklets[match[1].rpartition("/")[2]] = int(match[2])
            elif line.strip():
                self.problems.append(
                    Problem(folder.listing, BAD_NAME, f"line {number} is not `name,number`", "file")
                )
        there = {entry.path.removeprefix(folder.path + "/") for entry in images}
        for name in sorted(tracklets.keys() - there):
            self.problems.append(
                Problem(f"{folder.path}/{name}", NO_IMAGE, f"{folder.listing} lists it", "file")
            )
        unlisted = len(there - tracklets.keys())
        if unlisted:
            self.warnings.append(
                f"{folder.path}: {unlisted} images are not in {folder.listing}, left alone"
            )
        return tracklets


def read_labels(pattern: re.Pattern, path: str) -> dict[str, int] | None:
    """Returns the labels in a path, its extension left aside; None if the pattern does not fit.

    Labels are the pattern's groups that took part: numbers, or a letter (A is 0).
    """
    match = pattern.fullmatch(os.path.splitext(path)[0])  # noqa: PTH122 (called for every file)
    if match is None:
        return None
    return {
        label: ord(text) - ord("A") if text.isalpha() else int(text)
        for label, text in match.groupdict().items()
        if text is not None
    }
