"""SYSU-MM01: people seen by four visible-light and two infrared cameras."""

import collections
import dataclasses
import pathlib
import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.features import INFRARED, VISIBLE
from tfds_builders.reid.layout import TRAIN, Found, Published, Source, read_labels
from tfds_builders.reid.problems import BAD_NAME, NO_IMAGE, Problem, RawDataError
from tfds_builders.reid.tree import Tree, is_image

_CAMERAS = range(1, 7)
_INFRARED_CAMERAS = (3, 6)
_LISTS = {"exp/train_id.txt": TRAIN, "exp/val_id.txt": TRAIN, "exp/test_id.txt": "test"}
_DRAWS = "exp/rand_perm_cam.mat"
_MOST_BYTES = 64 * 2**20
_NAME = re.compile(r"cam(?P<camera>[1-6])/(?P<identity>\d{1,9})/[^/]*")


@dataclasses.dataclass(frozen=True)
class SysuMm01(Source):
    """A `Source`: folders of cameras, and lists of identities that make up the splits.

    The test's infrared images are the queries and its visible ones the gallery; a protocol draws
    from it.
    """

    title: str = "SYSU-MM01"
    published: ClassVar[dict[str, Published]] = {
        "train": Published(22_258 + 11_909, 395),
        "query": Published(3_803, 96),
        "gallery": Published(6_775, 96),
    }

    def find(self, tree: Tree) -> tuple[list[Found], list[Problem], list[str]]:
        """Lists images, problems and warnings; see `Source`."""
        _check_cameras(tree)
        split_of, problems = _read_identities(tree)
        found, left_alone, seen = [], 0, set()
        for entry in (e for camera in _CAMERAS for e in tree.files(f"cam{camera}") if is_image(e)):
            labels = read_labels(_NAME, entry.path)
            if labels is None:
                detail = f"name is not as {self.title} has them"
                problems.append(Problem(entry.path, BAD_NAME, detail))
                continue
            split = split_of.get(labels["identity"])
            if split is None:
                left_alone += 1
                continue
            seen.add(labels["identity"])
            infrared = labels["camera"] in _INFRARED_CAMERAS
            if split == "test":
                split = "query" if infrared else "gallery"
            found.append(Found(split, entry, **labels, modality=INFRARED if infrared else VISIBLE))
        for identity in sorted(split_of.keys() - seen):
            detail = f"a list in exp names identity {identity}"
            problems.append(Problem(f"cam*/{identity:04d}", NO_IMAGE, detail, "file"))
        _check_modalities(tree, found)
        warnings = [f"{left_alone} images of people in no list, left alone"] if left_alone else []
        return sorted(found, key=lambda image: image.entry.path), problems, warnings

    def notes(self, raw, splits):
        """The gallery's official draws, where `exp/rand_perm_cam.mat` is there; see `Source`."""
        file = raw / _DRAWS
        if not file.is_file():
            return {}
        return {"draws": {"gallery": _places(file, splits["gallery"])}}


class Builder(ReidBuilder):
    """TFDS builder of SYSU-MM01."""

    source = SysuMm01()


def _check_cameras(tree: Tree) -> None:
    folders = {path.name for path in tree.root.glob("cam*") if path.is_dir()}
    expected = {f"cam{camera}" for camera in _CAMERAS}
    if missing := expected - folders:
        raise RawDataError(
            f"{tree.root} has no folder {', '.join(sorted(missing))}; give the folder that holds "
            "SYSU-MM01's cam1 to cam6 and exp"
        )
    if other := folders - expected:
        raise RawDataError(
            f"{tree.root} has a folder {', '.join(sorted(other))}, but SYSU-MM01's cameras are 1 "
            "to 6; is it the right folder?"
        )


def _read_identities(tree: Tree) -> tuple[dict[int, str], list[Problem]]:
    """Returns the split of each listed identity; one in two splits is a problem.

    Raises:
        RawDataError: A list is missing or is none.
    """
    split_of: dict[int, str] = {}
    problems = []
    for file, split in _LISTS.items():
        cells = next(iter(tree.lines(file)), "").strip().split(",")
        if not all(re.fullmatch(r"\s*\d{1,9}\s*", cell) for cell in cells):
            raise RawDataError(
                f"{tree.root / file}: the first line must be identities separated by commas"
            )
        for identity in map(int, cells):
            if split_of.setdefault(identity, split) != split:
                detail = f"identity {identity} is in another list too"
                problems.append(Problem(file, BAD_NAME, detail, "file"))
    return split_of, problems


def _check_modalities(tree: Tree, found: list[Found]) -> None:
    seen = collections.defaultdict(set)
    for image in found:
        seen[image.split].add(image.modality)
    names = {VISIBLE: "visible", INFRARED: "infrared"}
    for split, expected in {TRAIN: names, "query": (INFRARED,), "gallery": (VISIBLE,)}.items():
        for modality in expected:
            if modality not in seen[split]:
                raise RawDataError(
                    f"{tree.root} has no {names[modality]} image for split {split}; is the copy "
                    "complete?"
                )


def _places(file: pathlib.Path, names: Sequence[str]) -> list[list[int]]:
    """Each image's place in every trial's order of its person and camera, -1 where it has none.

    The file holds cells by camera, in those cells by identity, and in those a row of image numbers
    for each trial; a gallery takes the first numbers of a row.

    Raises:
        RawDataError: It is another file, or a damaged one.
    """
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        from scipy import io  # Only where there is such a file.

        cells = io.loadmat(file)["rand_perm_cam"].ravel()
        orders = [
            [np.atleast_2d(order) for order in cell.ravel()]
            for cell in (cells[camera - 1] for camera in _CAMERAS)
        ]
        kinds = {order.dtype.kind for of_camera in orders for order in of_camera if order.size}
        trials = {len(order) for of_camera in orders for order in of_camera if order.size}
        if len(trials) != 1 or not kinds <= set("iuf"):
            raise ValueError("no orders of image numbers, as many for all")
        places = np.full((trials.pop(), len(names)), -1)
        for column, name in enumerate(names):
            _, camera, identity, number = re.fullmatch(r"(cam(\d)/(\d+)/(\d+))\..*", name).groups()
            order = orders[int(camera) - 1][int(identity) - 1]
            trial, place = np.nonzero(order == int(number))
            places[trial, column] = place
    except Exception as error:  # SciPy raises whatever its parsers run into.
        raise RawDataError(
            f"{file} does not hold SYSU-MM01's draws ({' '.join(str(error).split())[:100]}); put "
            "the authors' file there, or take it away to do without"
        ) from error
    return places.tolist()
