"""Who is who in an index: groups of images that show one person, as far as the model can tell.

Groups are those of DBSCAN on the Jaccard distance of k-reciprocal neighbours, as in training, but
with pairs allowed. How far a group can be trusted is how little it depends on the threshold: it is
compared with what a stricter and a looser one would have made of it.
"""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Int32

from sicl_jax import clustering
from sicl_jax.clustering.search import nearest_neighbors, unit_rows
from sicl_jax.data.files import atomic_file
from sicl_jax.errors import UserError, one_line

ALONE = -1
_STEP = 0.1  # Of the threshold, to the stricter and to the looser one.
_COLUMNS = ("file", "person", "trust", "similarity")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How alike images of one person have to be.

    Attributes:
        k1: Neighbours that are looked at; at most about the images of a person.
        k2: Neighbours over which encodings are averaged.
        eps: Largest Jaccard distance of neighbours, 0.1 to 0.85; larger makes larger groups.
    """

    k1: int = 20
    k2: int = 6
    eps: float = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class People:
    """The images of an index by person.

    Attributes:
        files: N paths.
        persons: (N,) int32, from 1; `ALONE` for an image like no other.
        trust: By person, 0 to 1; 1: the group is the same at a stricter and a looser threshold.
        similarity: (N,) mean cosine similarity to the others of the group; 0 for lone images.
    """

    files: tuple[str, ...]
    persons: Int32[np.ndarray, "N"]
    trust: Mapping[int, float]
    similarity: Float32[np.ndarray, "N"]

    def members(self, person: int) -> np.ndarray:
        """Rows of a person's images, those most like the group first; of lone images too."""
        rows = np.flatnonzero(self.persons == person)
        return rows[np.argsort(-self.similarity[rows], kind="stable")]


def group(
    files: Sequence[str],
    features: Float32[np.ndarray, "N D"],
    settings: Settings = Settings(),  # noqa: B008 - frozen.
    known: Mapping[str, int] | None = None,
) -> People:
    """Groups images by person.

    Args:
        files: N paths.
        features: Of the images.
        settings: How alike they have to be.
        known: Persons of files that are to stay as they are (`ALONE` is none). A group of the
            others joins the person whom most of its known images show, and is new if it has none.

    Raises:
        UserError: There are no images.
    """
    if not len(files):
        raise UserError("the index is empty; add images to it first")
    features = unit_rows(features)
    neighbors = nearest_neighbors(features, settings.k1)
    strict, labels, loose = (
        clustering.cluster(
            features,
            k1=settings.k1,
            k2=settings.k2,
            eps=eps,
            min_samples=2,
            tight=False,
            neighbors=neighbors,
        ).labels
        for eps in (settings.eps - _STEP, settings.eps, settings.eps + _STEP)
    )
    persons = _persons(files, labels, dict(known or {}))
    trust, similarity = {}, np.zeros(len(files), np.float32)
    for person in np.unique(persons[persons != ALONE]):
        rows = np.flatnonzero(persons == person)
        trust[int(person)] = _trust(rows, strict, loose)
        similarity[rows] = _similarity(features[rows])
    return People(tuple(files), persons, trust, similarity)


def _persons(files: Sequence[str], labels: np.ndarray, known: dict[str, int]) -> np.ndarray:
    """Persons of all images: known ones as they are, new ones by the groups that they fell into."""
    persons = np.array([known.get(file, ALONE) for file in files], np.int32)
    next_person = max([0, *known.values()]) + 1
    sizes = np.bincount(labels[labels >= 0], minlength=0)
    for label in np.argsort(-sizes, kind="stable"):  # The largest new group gets the first number.
        rows = np.flatnonzero(labels == label)
        named = persons[rows][persons[rows] != ALONE]
        if len(named):
            values, counts = np.unique(named, return_counts=True)
            person = int(values[counts.argmax()])
        else:
            person, next_person = next_person, next_person + 1
        persons[rows[persons[rows] == ALONE]] = person
    return persons


def _trust(rows: np.ndarray, strict: np.ndarray, loose: np.ndarray) -> float:
    """Mean over members of the overlap (intersection over union) with their other groups."""
    overlaps = []
    for labels in (strict, loose):
        of_rows = labels[rows]
        total = 0.0
        for label in np.unique(of_rows):
            inside = int((of_rows == label).sum())
            if label == ALONE:  # Each of these by itself.
                total += inside / len(rows)
            else:
                union = len(rows) + int((labels == label).sum()) - inside
                total += inside * inside / union
        overlaps.append(total / len(rows))
    return float(min(overlaps))


def _similarity(features: np.ndarray) -> np.ndarray:
    """Mean cosine similarity of each row to the others; 1 for one alone."""
    if len(features) == 1:
        return np.ones(1, np.float32)
    return (features @ features.sum(axis=0) - 1) / (len(features) - 1)


# ---- on disk -------------------------------------------------------------------------------


def write(people: People, path: pathlib.Path) -> None:
    """Writes a CSV of `file,person,trust,similarity`; lone images have no person.

    Raises:
        UserError: It cannot be written.
    """
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for person in [*sorted(people.trust), ALONE]:
        for row in people.members(person):
            cells = ("", "", "")
            if person != ALONE:
                cells = (person, f"{people.trust[person]:.2f}", f"{people.similarity[row]:.3f}")
            lines.writerow((people.files[row], *cells))
    try:
        with atomic_file(path) as file:
            file.write(text.getvalue().encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another") from error


def read(path: pathlib.Path) -> dict[str, int]:
    """The persons of files as `write` wrote them, or a person has corrected them since.

    Raises:
        UserError: There is no such file, or a line of it cannot be understood.
    """
    try:
        lines = path.read_bytes().decode("utf-8", "surrogateescape").splitlines()
        table = list(csv.DictReader(lines))
        known = {}
        for number, row in enumerate(table, start=2):
            if not row.get("file") or not (row.get("person") or "0").isdecimal():
                raise ValueError(f"line {number} has no file, or a person that is no number")
            known[row["file"]] = int(row["person"] or 0) or ALONE
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise UserError(
            f"{path}: cannot be read ({reason}); --add needs what an earlier run has written"
        ) from error
    return known
