"""Who is who, as people have marked it: one file, `people.json`, in the index's folder.

A change is on disk, whole, before its request is answered. Images are named by their paths, so
that an index made anew finds them again.
"""

import csv
import dataclasses
import io
import json
import pathlib
import threading
from collections.abc import Callable, Collection, Iterable, Sequence

from sicl_jax import schema
from sicl_jax.data.files import atomic_file
from sicl_jax.errors import UserError, one_line
from sicl_jax.retrieval import people
from sicl_jax.serve.problems import ApiError

FILE = "people.json"
_FORMAT = 1
MOST_IMAGES = 10_000
_NAME = 100


@dataclasses.dataclass(frozen=True)
class Person:
    """One person.

    Attributes:
        name: What somebody has called them; may be empty.
        same: Paths of their images.
        not_same: Paths of images that show somebody else.
        checked: Whether somebody has marked them; a group that was only computed is a guess.
        trust: Of a computed group, 0 to 1.
        like: The checked person whom a computed group would join: a question, not an answer.
    """

    name: str = ""
    same: tuple[str, ...] = ()
    not_same: tuple[str, ...] = ()
    checked: bool = False
    trust: float | None = None
    like: int | None = None


_PATHS = schema.text()
_PERSON = schema.record(
    {
        "name": schema.text(),
        "same": lambda value: isinstance(value, list) and all(map(_PATHS, value)),
        "not_same": lambda value: isinstance(value, list) and all(map(_PATHS, value)),
        "checked": schema.flag,
        "trust": schema.maybe(schema.number),
        "like": schema.maybe(schema.count(1)),
    },
    others=False,
)
_ALL = schema.record(
    {"format": schema.count(_FORMAT, _FORMAT), "next": schema.count(1)}
    | {"persons": lambda v: schema.table(_PERSON)(v) and all(map(schema.text(r"[1-9]\d*"), v))}
)


class Marks:
    """All persons of an index, safe to use from several threads.

    Args:
        folder: Of the index.

    Raises:
        UserError: What was marked before cannot be read.
    """

    def __init__(self, folder: pathlib.Path):
        self._file = folder / FILE
        self._lock = threading.RLock()
        self._persons: dict[int, Person] = {}
        self._next = 1
        if self._file.exists():
            self._read()
        self._owners = self._owned()

    def _read(self) -> None:
        try:
            held = json.loads(self._file.read_text())
            if not _ALL(held):
                raise ValueError("it lists no people")
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{self._file}: damaged ({one_line(error)}); bring back a copy, or move it away"
            ) from error
        for number, row in held["persons"].items():
            row |= {"same": tuple(row["same"]), "not_same": tuple(row["not_same"])}
            self._persons[int(number)] = Person(**row)
        self._next = max([held["next"], *(number + 1 for number in self._persons)])

    # ---- reading ---------------------------------------------------------------------------

    def all(self) -> dict[int, Person]:
        """Persons by number."""
        return self._persons  # Replaced by every change, never changed.

    def get(self, number: int) -> Person:
        """One person.

        Raises:
            ApiError: There is none of this number.
        """
        try:
            return self._persons[number]
        except KeyError:
            raise ApiError(404, f"there is no person {number}") from None

    def owner(self, path: str) -> int | None:
        """Whose image a file is."""
        return self._owners.get(path)

    # ---- changes ---------------------------------------------------------------------------

    def mark(
        self, number: int | None, shown: Sequence[str], images: Sequence[str], mark: str | None
    ) -> int:
        """Marks images as one person's or not.

        Args:
            number: The person; a new one if None.
            shown: Images that a new person is known by: those that were searched with.
            images: What is marked.
            mark: `same`, `not_same`, or None for neither.

        Returns:
            The person's number.
        """

        def change(persons: dict[int, Person]) -> int:
            key = self._new(persons) if number is None else number
            person = persons[key]
            same = dict.fromkeys([*person.same, *(shown if number is None else ())])
            not_same = dict.fromkeys(person.not_same)
            for path in images:
                same.pop(path, None)
                not_same.pop(path, None)
                if mark is not None:
                    (same if mark == "same" else not_same)[path] = None
            _take(persons, same, but=key)
            persons[key] = dataclasses.replace(
                person, same=tuple(same), not_same=tuple(not_same), checked=True
            )
            return key

        return self._change(number, change)

    def merge(self, numbers: Sequence[int]) -> int:
        """Makes one person of several; the first one's number and name stay."""

        def change(persons: dict[int, Person]) -> int:
            first, *others = dict.fromkeys(numbers)
            merged = [persons.pop(number) for number in (first, *others)]
            same = dict.fromkeys(path for person in merged for path in person.same)
            not_same = dict.fromkeys(path for person in merged for path in person.not_same)
            name = next((person.name for person in merged if person.name), "")
            kept = tuple(path for path in not_same if path not in same)
            persons[first] = Person(name, tuple(same), kept, checked=True)
            return first

        return self._change(numbers, change)

    def split(self, number: int, images: Collection[str]) -> int:
        """Makes a new person of some of a person's images; returns the new one's number."""

        def change(persons: dict[int, Person]) -> int:
            person = persons[number]
            moved = tuple(path for path in person.same if path in images)
            kept = tuple(path for path in person.same if path not in images)
            if not moved or not kept:
                raise ApiError(400, "split: choose some of this person's images, not all or none")
            persons[number] = dataclasses.replace(
                person, same=kept, checked=True, trust=None, like=None
            )
            key = self._new(persons)
            persons[key] = Person(same=moved, checked=True)
            return key

        return self._change(number, change)

    def edit(self, number: int, *, name: str | None = None, checked: bool | None = None) -> int:
        """Names a person, or says whether somebody has looked at them."""
        if name is not None and not (name.isprintable() and len(name) <= _NAME):
            raise ApiError(400, f"name: use up to {_NAME} printable characters")
        new = {"name": name, "checked": checked}
        new = {key: value for key, value in new.items() if value is not None}

        def change(persons: dict[int, Person]) -> int:
            new_like = {"like": None} if checked else {}
            persons[number] = dataclasses.replace(persons[number], **new, **new_like)
            return number

        return self._change(number, change)

    def remove(self, number: int) -> int:
        """Forgets a person; their images stay in the index."""

        def change(persons: dict[int, Person]) -> int:
            del persons[number]
            return number

        return self._change(number, change)

    def regroup(self, group: Callable[[dict[str, int]], people.People]) -> None:
        """Puts computed groups in the place of those that nobody has checked.

        Checked people stay as they are. What a group would add to one is a group of its own that
        says whom it is `like`: no guess becomes a label before somebody has looked at it.

        Args:
            group: From the persons of files that stay as they are to those of all files.
        """
        with self._lock:
            checked = {n: p for n, p in self._persons.items() if p.checked}
        known = {path: number for number, person in checked.items() for path in person.same}
        found = group(known)

        def change(persons: dict[int, Person]) -> None:
            for number in [n for n, p in persons.items() if not p.checked]:
                del persons[number]
            owned = {path for person in persons.values() for path in person.same}
            for number in sorted(found.trust):
                like = persons.get(number) if number in checked else None
                files = [found.files[row] for row in found.members(number)]
                files = [f for f in files if f not in owned and not (like and f in like.not_same)]
                if len(files) < (1 if like else 2):
                    continue
                trust = round(found.trust[number], 3)
                group = Person(same=tuple(files), trust=trust, like=number if like else None)
                persons[self._new(persons)] = group

        self._change((), change)

    def _new(self, persons: dict[int, Person]) -> int:
        number = max([self._next, *(key + 1 for key in persons)])
        persons[number] = Person()
        return number

    def _change(self, needed: int | Iterable[int] | None, change: Callable) -> int:
        """Changes a copy, writes it, then shows it."""
        needed = () if needed is None else (needed,) if isinstance(needed, int) else needed
        with self._lock:
            for number in needed:
                self.get(number)
            persons = dict(self._persons)
            result = change(persons)
            if any(len(p.same) + len(p.not_same) > MOST_IMAGES for p in persons.values()):
                raise ApiError(400, f"a person can have {MOST_IMAGES} images at most")
            following = max([self._next, *(key + 1 for key in persons)])
            held = {
                "format": _FORMAT,
                "next": following,
                "persons": {str(key): dataclasses.asdict(p) for key, p in persons.items()},
            }
            try:
                with atomic_file(self._file) as file:
                    file.write(json.dumps(held).encode())
            except OSError as error:
                raise ApiError(503, f"marks cannot be written ({error.strerror})") from error
            self._persons, self._next = persons, following
            self._owners = self._owned()
        return result

    def _owned(self) -> dict[str, int]:
        return {path: number for number, p in self._persons.items() for path in p.same}

    # ---- export ----------------------------------------------------------------------------

    def chosen(self, *, everybody: bool) -> dict[int, Person]:
        """Persons with images: those that somebody has checked, or all."""
        return {
            number: person
            for number, person in self._persons.items()
            if person.same and (everybody or person.checked)
        }

    def table(self, *, everybody: bool) -> bytes:
        """A CSV of `file,person,name,trust`, which `sicl-jax cluster --add` goes on with."""
        text = io.StringIO(newline="")
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(("file", "person", "name", "trust"))
        for number, person in self.chosen(everybody=everybody).items():
            trust = 1 if person.checked else person.trust
            for path in person.same:
                lines.writerow((path, number, _cell(person.name), trust))
        return text.getvalue().encode("utf-8", "surrogateescape")


def _cell(words: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{words}" if words[:1] in ("=", "+", "-", "@") else words


def _take(persons: dict[int, Person], paths: Collection[str], *, but: int) -> None:
    """Takes images from whoever else has them; who has none left is forgotten if unchecked."""
    for key, person in list(persons.items()):
        if key != but and not set(paths).isdisjoint(person.same):
            kept = tuple(path for path in person.same if path not in paths)
            persons[key] = dataclasses.replace(person, same=kept)
            if not kept and not person.not_same:
                del persons[key]
