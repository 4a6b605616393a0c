"""Listing the files of a folder from somebody else, without following it out of itself."""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence

from tfds_builders.reid.problems import BAD_LINK, BAD_NAME, UNREADABLE, Problem, RawDataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})
_JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_DEEPEST = 16
_NAMED = 10
_LONGEST_LINE = 16 << 10
_LARGEST_TEXT = 64 << 20


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file: its path below the root with slashes, size in bytes, change time in ns."""

    path: str
    size: int
    changed: int

    @property
    def stem(self) -> str:
        """The path without its extension."""
        return os.path.splitext(self.path)[0]  # noqa: PTH122 (called for every file)

    @property
    def suffix(self) -> str:
        """The extension in lower case, with its dot."""
        return os.path.splitext(self.path)[1].lower()  # noqa: PTH122

    @property
    def folder(self) -> str:
        """The path of the folder."""
        return os.path.dirname(self.path)  # noqa: PTH120


class Tree:
    """A folder of raw data or of masks.

    Attributes:
        root: The folder, with links resolved.
        problems: What was found wrong while listing.
    """

    def __init__(self, root: str | pathlib.Path, shown_as: str = ""):
        """Opens a folder.

        Args:
            root: The folder; it may itself be a link.
            shown_as: Put before paths in problems, such as `masks/`.

        Raises:
            RawDataError: It is not a folder.
        """
        self.root = pathlib.Path(root).expanduser()
        if not self.root.is_dir():
            raise RawDataError(f"{root} is not a folder")
        self.root = self.root.resolve()
        self.problems: list[Problem] = []
        self._shown_as = shown_as

    def has(self, folder: str) -> bool:
        """Returns whether a folder is there."""
        return (self.root / folder).is_dir()

    def files(self, folder: str = "") -> list[Entry]:
        """Returns all plain files below a folder, sorted by path; junk and hidden ones left out.

        A link to a file inside the root counts as a file. Links that lead out of the root, links
        to folders, pipes and devices, names that are not UTF-8 or hold control characters are
        noted as problems.
        """
        found = []
        pending = [(folder, 0)]
        while pending:
            relative, depth = pending.pop()
            try:
                with os.scandir(self.root / relative) as entries:
                    children = list(entries)
            except OSError as error:
                self._note(relative, UNREADABLE, f"cannot be listed: {error.strerror}")
                continue
            for child in children:
                if child.name.startswith(".") or child.name.lower() in _JUNK:
                    continue
                path = f"{relative}/{child.name}" if relative else child.name
                if not _is_plain(child.name):
                    self._note(path, BAD_NAME, "name holds control characters or is not UTF-8")
                elif child.is_dir(follow_symlinks=False):
                    if depth < _DEEPEST:
                        pending.append((path, depth + 1))
                    else:
                        self._note(path, UNREADABLE, f"lies more than {_DEEPEST} folders deep")
                elif (entry := self._entry(child, path)) is not None:
                    found.append(entry)
        return sorted(found, key=lambda entry: entry.path)

    def lines(self, path: str) -> Iterator[str]:
        """Yields the lines of a text file below the root, one at a time.

        Raises:
            RawDataError: It is missing, leads out of the root, or it is absurdly large.
        """
        file = (self.root / path).resolve()
        if not file.is_relative_to(self.root) or not file.is_file():
            raise RawDataError(f"{self.root / path} is missing or is not a plain file")
        if file.stat().st_size > _LARGEST_TEXT:
            raise RawDataError(f"{file} is larger than {_LARGEST_TEXT >> 20} MiB; is it text?")
        with file.open("rb") as handle:
            for number in itertools.count(1):
                line = handle.readline(_LONGEST_LINE)
                if not line:
                    return
                if len(line) == _LONGEST_LINE:
                    raise RawDataError(
                        f"{file}: line {number} is longer than {_LONGEST_LINE >> 10} KiB; is it a "
                        "text file?"
                    )
                yield line.decode("utf-8-sig" if number == 1 else "utf-8", "replace")

    def _entry(self, child: os.DirEntry, path: str) -> Entry | None:
        if child.is_symlink():
            target = pathlib.Path(child.path).resolve()
            if not target.is_relative_to(self.root):
                self._note(path, BAD_LINK, "is a link that leads out of the folder")
                return None
            if target.is_dir():
                self._note(path, BAD_LINK, "is a link to a folder; give the folder itself")
                return None
        try:
            stat = child.stat()
        except OSError as error:
            self._note(path, UNREADABLE, f"cannot be read: {error.strerror}")
            return None
        if not child.is_file():
            self._note(path, UNREADABLE, "is not a plain file")
            return None
        return Entry(path, stat.st_size, stat.st_mtime_ns)

    def _note(self, path: str, kind: str, detail: str) -> None:
        self.problems.append(Problem(self._shown_as + path, kind, detail, left_out="file"))


def left_alone(entries: Sequence[Entry], where: str = "") -> list[str]:
    """Returns a line on files that are no images, with their number and some names; or none."""
    others = [entry.path for entry in entries if not is_image(entry)]
    if not others:
        return []
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    files = (
        "1 file that is no image" if len(others) == 1 else f"{len(others)} files that are no images"
    )
    return [f"{where}{files}, left alone: {', '.join(others[:_NAMED])}{more}"]


def is_image(entry: Entry) -> bool:
    """Returns whether the extension is an image's."""
    return entry.suffix in IMAGE_SUFFIXES


def _is_plain(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # Bytes that are not UTF-8 arrive as lone surrogates.
        return False
    return name.isprintable()
