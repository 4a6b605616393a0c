"""Which images a data set has, with what labels and masks; without opening any of them."""

import collections
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable
from typing import Protocol

from tfds_builders.reid.features import LABELS
from tfds_builders.reid.layout import Found, Published
from tfds_builders.reid.problems import NO_IMAGE, NO_MASK, Problem, RawDataError
from tfds_builders.reid.tree import Entry, Tree, is_image

TRAIN = "train"
MASKS = "masks"
"""The mask folder's name inside the raw folder, if no other is given; and in problems' paths."""


class Source(Protocol):
    """A data set's description; `layout.Layout` is one."""

    title: str
    published: dict[str, Published]
    numbering_may_restart: bool

    def find(self, tree: Tree) -> tuple[list[Found], list[Problem], list[str]]:
        """Lists images, problems and warnings."""


@dataclasses.dataclass(frozen=True)
class Listing:
    """What lies in the raw folders.

    Attributes:
        source: the data set's description.
        raw: the raw folder.
        masks: the mask folder, or None.
        pairs: each image and its mask, or None.
        problems: what is wrong so far.
        warnings: what is odd but no error.
        digest: hash of all labels, and of all files' paths, sizes and change times.
    """

    source: Source
    raw: pathlib.Path
    masks: pathlib.Path | None
    pairs: list[tuple[Found, Entry | None]]
    problems: list[Problem]
    warnings: list[str]
    digest: str


def find(
    source: Source,
    raw: str | pathlib.Path,
    masks: str | pathlib.Path | None = None,
    *,
    with_masks: bool = True,
) -> Listing:
    """Lists the images of a data set and the mask of each.

    Args:
        source: the data set's description.
        raw: the raw folder.
        masks: a tree with the images' paths and `.png` for an extension. If None, the folder
            `masks` in the raw folder, if it is there.
        with_masks: False looks for no masks at all.

    Raises:
        RawDataError: a folder is missing or empty, or the masks are those of other images.
    """
    tree = Tree(raw)
    found, noted, warnings = source.find(tree)
    if not found and not noted and not tree.problems:
        raise RawDataError(f"{tree.root} holds no images; is it the right folder?")
    if masks is None and with_masks:
        if tree.has(MASKS):
            masks = tree.root / MASKS
        else:
            warnings.append("there are no masks: only training without silhouettes is possible")
    if masks is None:
        pairs, mask_root = [(image, None) for image in found], None
    else:
        mask_tree = Tree(masks, shown_as=f"{MASKS}/")
        pairs = _with_masks(found, mask_tree)
        noted += [
            Problem(image.entry.path, NO_MASK, "a training image needs one")
            for image, mask in pairs
            if mask is None and image.split == TRAIN
        ]
        noted += _orphans(mask_tree, pairs, tree)
        noted += mask_tree.problems
        mask_root = mask_tree.root
    noted += tree.problems
    return Listing(source, tree.root, mask_root, pairs, sorted(noted), warnings, _state(pairs))


def _with_masks(found: list[Found], masks: Tree) -> list[tuple[Found, Entry | None]]:
    by_stem: dict[str, Entry] = {}
    for entry in masks.files():
        if is_image(entry) and (entry.stem not in by_stem or entry.suffix == ".png"):
            by_stem[entry.stem] = entry
    if not by_stem:
        raise RawDataError(f"{masks.root} holds no masks; leave --masks out if there are none")
    pairs = [(image, by_stem.get(image.entry.stem)) for image in found]
    if found and not any(mask for _, mask in pairs):
        expected = masks.root / f"{found[0].entry.stem}.png"
        raise RawDataError(f"{masks.root} has no mask for any image; expected {expected} and so on")
    return pairs


def _orphans(masks: Tree, pairs: Iterable[tuple[Found, Entry | None]], raw: Tree) -> list[Problem]:
    """Masks without an image file; not those of images that are left out for other reasons."""
    used = {mask.path for _, mask in pairs if mask}
    left = [entry for entry in masks.files() if is_image(entry) and entry.path not in used]
    stems_by_folder = collections.defaultdict(set)
    for folder in {entry.folder for entry in left}:
        if (raw.root / folder).is_dir():
            for path in (raw.root / folder).iterdir():
                stems_by_folder[folder].add(path.stem)
    return [
        Problem(f"{MASKS}/{entry.path}", NO_IMAGE, "a mask without an image", left_out="mask")
        for entry in left
        if pathlib.PurePosixPath(entry.path).stem not in stems_by_folder[entry.folder]
    ]


def _state(pairs: Iterable[tuple[Found, Entry | None]]) -> str:
    state = hashlib.blake2b(digest_size=16)
    for image, mask in pairs:
        labels = [getattr(image, label) for label in LABELS]
        state.update(f"{image.split} {labels} {image.entry} {mask}\n".encode())
    return state.hexdigest()
