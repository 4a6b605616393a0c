"""What a file's path says of an image beside what it shows, and which images a search may find.

The camera comes from the index's own pattern, such as `{camera}/*/*.jpg`, which is laid on the
path's end. Without one it is a folder named `cam...`, or the `c3` of a name such as
`0002_c3s1_000451.jpg`. The time is a date with a time of day in the file's name
(`20260314_080512`, read as UTC), else that of the file's last change.
"""

import dataclasses
import datetime
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool

from sicl_jax.errors import UsageError
from tfds_builders.person_folder.table import MODALITIES
from tfds_builders.reid.features import INFRARED

_CAMERA_FOLDER = re.compile(r"cam(?:era)?[-_ ]?\w*", re.IGNORECASE)
_CAMERA_IN_NAME = re.compile(r"(?:^|[_-])(c\d{1,4})(?=s\d|[_.-]|$)", re.IGNORECASE)
_GAP = r"[-_.:T ]?"
_TIME = re.compile(
    rf"(?<!\d)((?:19|20)\d\d){_GAP}(\d\d){_GAP}(\d\d){_GAP}(\d\d){_GAP}(\d\d){_GAP}(\d\d)(?!\d)"
)
_HOLE = "{camera}"


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of one image; an empty string is unknown.

    Attributes:
        camera: Its camera.
        folder: The folder that it lies in.
        modality: `visible` or `infrared`.
        time: Seconds since 1970.
    """

    camera: str
    folder: str
    modality: str
    time: float


@dataclasses.dataclass(frozen=True)
class Where:
    """Which images a search may find; what is empty or None lets all through.

    Attributes:
        cameras: Any of these.
        folders: In or below any of these, absolute paths.
        modalities: Any of these.
        since: Not before, seconds since 1970.
        until: Before.
    """

    cameras: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()
    modalities: frozenset[str] = frozenset()
    since: float | None = None
    until: float | None = None

    def __bool__(self) -> bool:
        return self != Where()


def camera_reader(pattern: str | None) -> Callable[[str], str]:
    """What reads the camera from an absolute path.

    Args:
        pattern: The path's end, as many parts as it has slashes: `*` stands for anything within a
            part, `{camera}` for the camera. None: the rule at the top of this file.

    Raises:
        UsageError: The pattern has not exactly one `{camera}`.
    """
    if pattern is None:
        return _usual_camera
    parts = pattern.strip("/").split("/")
    if pattern.count(_HOLE) != 1 or any(part.count("*") > 4 for part in parts):
        raise UsageError(
            f"--camera {pattern}: has to hold {_HOLE} once, and at most four * between slashes; "
            f"such as '{_HOLE}/*/*.jpg'"
        )
    patterns = [
        re.compile(re.escape(p).replace(r"\*", ".*").replace(re.escape(_HOLE), "(.+)"), re.DOTALL)
        for p in parts
    ]

    def read(path: str) -> str:
        found = ""
        ends = path.split("/")[-len(patterns) :]
        if len(ends) < len(patterns):
            return ""
        for compiled, part in zip(patterns, ends, strict=True):
            match = compiled.fullmatch(part)
            if match is None:
                return ""
            found = match[1] if compiled.groups else found
        return found

    return read


def facts_of(path: str, changed: int, camera: Callable[[str], str]) -> Facts:
    """The facts of a file.

    Args:
        path: Absolute.
        changed: Time of its last change, ns.
        camera: Of `camera_reader`.
    """
    folder, _, name = path.rpartition("/")
    named = next((part for part in reversed(folder.split("/")) if part in MODALITIES), None)
    modality = "" if named is None else MODALITY_NAMES[MODALITIES[named] == INFRARED]
    return Facts(camera(path), folder or "/", modality, _time(name, changed))


MODALITY_NAMES = ("visible", "infrared")


class FactTable:
    """The facts of all images of an index, to be asked at once.

    Attributes:
        cameras, folders, modalities: What there is of each, sorted.
        times: (N,) seconds since 1970.
    """

    def __init__(self, facts: Sequence[Facts]):
        self.cameras, self._camera = _coded([fact.camera for fact in facts])
        self.folders, self._folder = _coded([fact.folder for fact in facts])
        self.modalities, self._modality = _coded([fact.modality for fact in facts])
        self.times = np.array([fact.time for fact in facts], np.float64)

    def __getitem__(self, row: int) -> Facts:
        return Facts(
            self.cameras[self._camera[row]],
            self.folders[self._folder[row]],
            self.modalities[self._modality[row]],
            float(self.times[row]),
        )

    def mask(self, where: Where) -> Bool[np.ndarray, "N"]:
        """Which images pass."""
        passed = np.ones(len(self.times), bool)
        for wanted, names, codes in (
            (where.cameras, self.cameras, self._camera),
            (where.modalities, self.modalities, self._modality),
        ):
            if wanted:
                passed &= np.array([name in wanted for name in names], bool)[codes]
        if where.folders:
            below = tuple(f"{folder.rstrip('/')}/" for folder in where.folders)
            is_in = [f"{name.rstrip('/')}/".startswith(below) for name in self.folders]
            passed &= np.array(is_in, bool)[self._folder]
        if where.since is not None:
            passed &= self.times >= where.since
        if where.until is not None:
            passed &= self.times < where.until
        return passed


def _coded(values: Sequence[str]) -> tuple[list[str], np.ndarray]:
    names = sorted(set(values))
    code = {name: number for number, name in enumerate(names)}
    return names, np.array([code[value] for value in values], np.int32)


def _usual_camera(path: str) -> str:
    *folders, name = path.split("/")
    for folder in reversed(folders):
        if _CAMERA_FOLDER.fullmatch(folder):
            return folder
    match = _CAMERA_IN_NAME.search(pathlib.PurePath(name).stem)
    return match[1].lower() if match else ""


def _time(name: str, changed: int) -> float:
    match = _TIME.search(name)
    if match:
        try:
            return datetime.datetime(*map(int, match.groups()), tzinfo=datetime.UTC).timestamp()
        except ValueError:  # The digits are no date.
            pass
    return changed / 1e9
