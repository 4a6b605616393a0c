"""CCVID: frames of videos of people walking, in changing clothes."""

import collections
import re
from typing import ClassVar

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.layout import TRAIN, Found, Published, Source
from tfds_builders.reid.problems import BAD_NAME, NO_IMAGE, Problem, RawDataError
from tfds_builders.reid.tree import Entry, Tree, is_image

_LISTS = {TRAIN: "train.txt", "query": "query.txt", "gallery": "gallery.txt"}
_LINE = re.compile(
    r"\s*(?:\./)?(?P<folder>session(?P<session>\d)/\d{1,9}_(?P<camera>\d{1,3}))"
    r"\s+(?P<identity>\d{1,9})\s+(?P<clothes>\w{1,99})\s*"
)
_CAMERAS_BEFORE_SESSION_3 = 12


class CcVid(Source):
    """Lists of tracklets: a folder of frames, the person and the outfit in each line.

    The cameras of session 3, which was recorded later, count as others than those of 1 and 2.
    """

    title = "CCVID"
    published: ClassVar[dict[str, Published]] = {}

    def find(self, tree: Tree) -> tuple[list[Found], list[Problem], list[str]]:
        """Lists images, problems and warnings; see `Source`."""
        frames: dict[str, list[Entry]] = collections.defaultdict(list)
        for entry in tree.files():
            if is_image(entry) and not self.is_beside(entry.path):
                frames[entry.folder].append(entry)
        outfits: dict[tuple[int, str], int] = {}
        found, problems, tracklets = [], [], set()
        for split, file in _LISTS.items():
            before = len(found)
            for number, line in enumerate(tree.lines(file), 1):
                if not line.strip():
                    continue
                parts = _LINE.fullmatch(line)
                if parts is None or parts["folder"] in tracklets:
                    detail = "is not `session/folder person clothes`" if parts is None else "again"
                    problems.append(Problem(file, BAD_NAME, f"line {number} {detail}", "file"))
                    continue
                folder, identity = parts["folder"], int(parts["identity"])
                tracklets.add(folder)
                if folder not in frames:
                    detail = f"line {number} of {file} lists it, and it holds no frames"
                    problems.append(Problem(folder, NO_IMAGE, detail, "file"))
                outfit = outfits.setdefault((identity, parts["clothes"]), len(outfits))
                later = _CAMERAS_BEFORE_SESSION_3 * (parts["session"] == "3")
                labels = {
                    "identity": identity,
                    "camera": int(parts["camera"]) + later,
                    "clothes": outfit,
                    "tracklet": len(tracklets),
                }
                found += [Found(split, entry, **labels) for entry in frames.get(folder, ())]
            if len(found) == before:
                raise RawDataError(
                    f"{tree.root / file} lists no frames that are there; is {tree.root} the folder "
                    "of CCVID?"
                )
        unlisted = len(frames.keys() - tracklets)
        warnings = [f"{unlisted} folders of frames are in no list, left alone"] if unlisted else []
        return sorted(found, key=lambda image: image.entry.path), problems, warnings


class Builder(ReidBuilder):
    """TFDS builder of CCVID."""

    source = CcVid()
