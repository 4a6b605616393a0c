"""What can be wrong with raw data, and how it is told."""

import collections
import csv
import dataclasses
import pathlib
from collections.abc import Sequence

UNREADABLE = "unreadable"
BAD_NAME = "name"
BAD_LINK = "link"
NO_MASK = "no mask"
NO_IMAGE = "no image"
BAD_MASK = "bad mask"
BAD_FACE = "bad face"
SIZE = "size"
LABEL = "label"
SHARED = "identity shared"


class RawDataError(ValueError):
    """The raw data cannot be prepared; the message is one line with the remedy."""


class ProblemsFoundError(RawDataError):
    """Raised after the scan; `problems` holds all of them."""

    def __init__(self, message: str, problems: Sequence["Problem"]):
        super().__init__(message)
        self.problems = list(problems)


@dataclasses.dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with the raw data.

    Attributes:
        path: Below the raw folder, or `masks/...` below the mask folder.
        kind: One of the constants above.
        detail: What is wrong.
        left_out: What `skip_bad` leaves out because of it: `image`, `mask`, `face`, `face restored`
            or `file`.
    """

    path: str
    kind: str
    detail: str
    left_out: str = "image"


def printable(text: str) -> str:
    """Returns the text on one line, with control characters and undecodable bytes escaped."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def summary(problems: Sequence[Problem]) -> str:
    """Counts by kind, such as `3 unreadable, 1 size`."""
    counts = collections.Counter(problem.kind for problem in problems)
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())


def write_csv(path: pathlib.Path, problems: Sequence[Problem]) -> None:
    """Writes a table `path,kind,detail,left_out`, atomically.

    Cells that a spreadsheet would take for a formula get an apostrophe in front.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "kind", "detail", "left_out"])
        for problem in problems:
            writer.writerow([_cell(value) for value in dataclasses.astuple(problem)])
    temporary.replace(path)


def _cell(value: str) -> str:
    value = printable(value)
    return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value
