"""How a user's own crops may lie: in splits or flat, with or without a table of labels."""

import dataclasses
from typing import ClassVar

from tfds_builders.person_folder.table import (
    MODALITIES,
    MODALITY_FOLDERS,
    TABLE,
    Labels,
    read_table,
)
from tfds_builders.reid.features import UNKNOWN
from tfds_builders.reid.layout import Found, Published, Source
from tfds_builders.reid.problems import LABEL, Problem, RawDataError
from tfds_builders.reid.tree import Entry, Tree, is_image, left_alone

_SPLITS = ("train", "query", "gallery")


@dataclasses.dataclass(frozen=True)
class PersonFolder(Source):
    """A `Source` for `train/<identity or anything>/...`, or a flat folder of crops.

    - The folder below `train`, `query` or `gallery` names the person. What lies directly in
      `train` has no identity; queries and gallery need one.
    - Folders `rgb` and `ir` above the person's (or in the root) part visible from infrared images.
    - `query` and `gallery` are optional, but come together.
    - Without these folders everything is for training.
    - `metadata.csv` overrules what folders say, and adds cameras and outfits.
    """

    title: str = "a folder of people"
    published: ClassVar[dict[str, Published]] = {}

    def find(self, tree: Tree) -> tuple[list[Found], list[Problem], list[str]]:
        """Lists images, problems and warnings; see `Source`."""
        files = [entry for entry in tree.files() if not self.is_beside(entry.path)]
        placed = _images_by_split(tree, files)
        entries = {entry.path: entry for images in placed.values() for entry in images}
        table, problems = read_table(tree, entries)
        labelled = [
            (split, entry, _labels(split, entry, table))
            for split, images in placed.items()
            for entry in images
        ]
        numbers = Labels(
            *(
                MODALITIES
                if field.name == "modality"
                else _numbering({getattr(labels, field.name) for _, _, labels in labelled})
                for field in dataclasses.fields(Labels)
            )
        )
        found = []
        for split, entry, labels in labelled:
            if split != "train" and not labels.identity:
                detail = f"no identity: put it in a folder named so, or list it in {TABLE}"
                problems.append(Problem(entry.path, LABEL, detail))
                continue
            values = {
                field.name: getattr(numbers, field.name).get(getattr(labels, field.name), UNKNOWN)
                for field in dataclasses.fields(Labels)
            }
            found.append(Found(split, entry, **values))
        placed_count = sum(map(len, placed.values()))
        elsewhere = sum(map(is_image, files)) - placed_count
        warnings = left_alone([entry for entry in files if entry.path != TABLE])
        if elsewhere:
            warnings.append(f"{elsewhere} images lie outside {', '.join(placed)}, left alone")
        return found, problems, warnings


def _images_by_split(tree: Tree, files: list[Entry]) -> dict[str, list[Entry]]:
    images = [entry for entry in files if is_image(entry)]
    there = [split for split in _SPLITS if tree.has(split)]
    if not there:
        return {"train": images}
    missing = {"train"} - set(there)
    if "query" in there or "gallery" in there:
        missing |= set(_SPLITS) - set(there)
    if missing:
        raise RawDataError(
            f"{tree.root} has {', '.join(there)} but no {', '.join(sorted(missing))}; queries and "
            "a gallery are given together or not at all, and there must be something to train on"
        )
    placed = {split: [e for e in images if e.path.startswith(f"{split}/")] for split in there}
    for split, found in placed.items():
        if not found:
            raise RawDataError(f"{tree.root / split} holds no images; put some in or remove it")
    return placed


def _labels(split: str, entry: Entry, table: dict[str, Labels]) -> Labels:
    labels = table.get(entry.path, Labels())
    *folders, _ = entry.path.removeprefix(f"{split}/").split("/")
    modality = folders.pop(0) if folders and folders[0] in MODALITY_FOLDERS else ""
    return dataclasses.replace(
        labels,
        identity=labels.identity or (folders[0] if folders else ""),
        modality=labels.modality or modality,
    )


def _numbering(labels: set[str]) -> dict[str, int]:
    """Numbers labels: by themselves if all are numbers, else by their place in sorted order."""
    labels = labels - {""}
    if all(label.isdecimal() and len(label) < 10 for label in labels):
        return {label: int(label) for label in labels}
    return {label: number for number, label in enumerate(sorted(labels))}
