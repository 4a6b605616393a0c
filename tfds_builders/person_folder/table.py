"""Reading `metadata.csv`, a table from somebody else, with bounded memory."""

import csv
import dataclasses
import re
from collections.abc import Container

from tfds_builders.reid.features import INFRARED, VISIBLE
from tfds_builders.reid.problems import LABEL, NO_IMAGE, Problem, RawDataError, printable
from tfds_builders.reid.tree import Tree

TABLE = "metadata.csv"
MODALITY_FOLDERS = ("rgb", "ir")
MODALITIES = {"visible": VISIBLE, "infrared": INFRARED, "rgb": VISIBLE, "ir": INFRARED}
_LABEL = re.compile(r"\w[\w .:-]{0,99}")


@dataclasses.dataclass(frozen=True)
class Labels:
    """What is known of an image; an empty string is unknown."""

    identity: str = ""
    camera: str = ""
    clothes: str = ""
    modality: str = ""


_FILE = "file"
_COLUMNS = frozenset({_FILE, *(field.name for field in dataclasses.fields(Labels))})


def read_table(tree: Tree, images: Container[str]) -> tuple[dict[str, Labels], list[Problem]]:
    """Reads the table, if there is one.

    Args:
        tree: The raw folder.
        images: Paths of the images there.

    Returns:
        Labels by path, and problems: lines that do not parse, files that are not there.

    Raises:
        RawDataError: The file as a whole is no such table.
    """
    path = tree.root / TABLE
    if not path.exists() and not path.is_symlink():
        return {}, []
    lines = ((number, line) for number, line in enumerate(tree.lines(TABLE), 1) if line.strip())
    columns = _columns(f"{path}", next(lines, (1, ""))[1])
    table: dict[str, Labels] = {}
    problems = []
    for number, line in lines:
        try:
            name, labels = _row(columns, line)
            if name in table:
                raise ValueError(f"{printable(name)} has been listed before")
        except ValueError as error:
            problems.append(Problem(TABLE, LABEL, f"line {number}: {error}", left_out="file"))
            continue
        if name in images:
            table[name] = labels
        else:
            detail = f"line {number} of {TABLE} lists it"
            problems.append(Problem(name, NO_IMAGE, detail, left_out="file"))
    return table, problems


def _columns(path: str, line: str) -> list[str]:
    try:
        columns = [cell.lower() for cell in _cells(line)]
    except ValueError:
        columns = []
    unknown = [column for column in columns if column not in _COLUMNS]
    if _FILE not in columns or unknown or len(set(columns)) < len(columns):
        shown = printable(line.strip())[:60]
        raise RawDataError(
            f"{path}: the first line must be file,identity,camera,clothes,modality (file, and any "
            f"of the others, once each), but is {shown!r}"
        )
    return columns


def _row(columns: list[str], line: str) -> tuple[str, Labels]:
    """Returns a line's file and labels.

    Raises:
        ValueError: It is not a line of such a table.
    """
    cells = _cells(line)
    if len(cells) != len(columns):
        raise ValueError(f"{len(cells)} cells, but the first line has {len(columns)}")
    values = dict(zip(columns, cells, strict=True))
    name = values.pop(_FILE).replace("\\", "/").removeprefix("./")
    for column, label in values.items():
        if label and not _LABEL.fullmatch(label):
            raise ValueError(
                f"{column} {printable(label)[:40]!r} is no label; use letters, digits, spaces and "
                "any of _ . : -"
            )
    if values.get("modality") and values["modality"] not in MODALITIES:
        raise ValueError(f"modality {values['modality'][:40]!r} is none of {', '.join(MODALITIES)}")
    return name, Labels(**values)


def _cells(line: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line]), [])]
    except csv.Error as error:
        raise ValueError(str(error)) from error
