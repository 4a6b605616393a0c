"""Data sets whose own text files list the images of each split."""

import dataclasses
import re
from collections.abc import Mapping

from tfds_builders.reid.layout import Found, Published, Source, read_labels
from tfds_builders.reid.problems import BAD_NAME, NO_IMAGE, Problem, RawDataError
from tfds_builders.reid.tree import Tree, is_image


@dataclasses.dataclass(frozen=True)
class ImageList:
    """A text file with a line `path` or `path number` for each image; the numbers are left aside.

    Attributes:
        split: The split that the images go to; several lists may make up one.
        file: The text file below the raw folder.
        name: Pattern of the path as listed, for `read_labels`.
        folder: Folder below the raw folder that paths are relative to.
        labels: Labels that hold for the whole list.
        first_identity: Added to identities, where a list numbers its people from 0 again.
    """

    split: str
    file: str
    name: str
    folder: str = ""
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    first_identity: int = 0


@dataclasses.dataclass(frozen=True)
class Lists(Source):
    """A `Source` of lists.

    Attributes:
        title: The data set's name as people write it.
        lists: The lists.
        published: Published sizes of splits.
    """

    title: str
    lists: tuple[ImageList, ...]
    published: Mapping[str, Published]

    def find(self, tree: Tree) -> tuple[list[Found], list[Problem], list[str]]:
        """Lists images, problems and warnings; see `Source`.

        Raises:
            RawDataError: A list is missing or names no image that is there.
        """
        entries = {
            entry.path: entry
            for entry in tree.files()
            if is_image(entry) and not self.is_beside(entry.path)
        }
        found, problems = [], []
        for listed in self.lists:
            images, wrong = self._read(tree, listed, entries)
            if not images:
                raise RawDataError(
                    f"{tree.root / listed.file} names no image that is there; is "
                    f"{tree.root} the folder of {self.title}, and complete?"
                )
            found += images
            problems += wrong
        unlisted = len(entries.keys() - {image.entry.path for image in found})
        warnings = [f"{unlisted} images are in no list, left alone"] if unlisted else []
        return sorted(found, key=lambda image: image.entry.path), problems, warnings

    def _read(self, tree: Tree, listed: ImageList, entries) -> tuple[list[Found], list[Problem]]:
        pattern = re.compile(listed.name)
        found, problems, seen = [], [], set()
        for number, line in enumerate(tree.lines(listed.file), 1):
            if not line.strip():
                continue
            path, _, label = line.strip().replace("\\", "/").rpartition(" ")
            if not label.isdecimal():
                path = line.strip()
            below = path.strip().removeprefix("./")
            labels = read_labels(pattern, below)
            place = f"{listed.folder}/{below}" if listed.folder else below
            where = f"line {number} of {listed.file}"
            if labels is None or place in seen:
                detail = "listed twice" if place in seen else f"not named as {self.title} has them"
                problems.append(Problem(listed.file, BAD_NAME, f"line {number}: {detail}", "file"))
            elif place not in entries:
                problems.append(Problem(place, NO_IMAGE, f"{where} lists it", "file"))
            else:
                seen.add(place)
                labels["identity"] += listed.first_identity
                found.append(Found(listed.split, entries[place], **(labels | listed.labels)))
        return found, problems
