"""A gallery on disk that can be searched: a faiss index with the names of its files.

The folder of an index holds `index.json`, which says of which model the features are and names
the other files: `vectors-N.faiss` and `entries-N.json`, and as many pairs more as there were
additions since all was last written anew. A change writes a pair and then replaces `index.json`, so
that an index is whole at every moment.

Up to `FLAT_LIMIT` images the search is exact (a flat index); beyond, an inverted file is trained
on the vectors that are there, and the search is approximate.
"""

import abc
import dataclasses
import functools
import itertools
import json
import math
import os
import pathlib
import threading
from collections.abc import Collection, Sequence
from stat import S_ISREG
from typing import Any, Self

import faiss
import numpy as np
from jaxtyping import Bool, Float32, Int64

from sicl_jax import schema
from sicl_jax.data.files import atomic_file
from sicl_jax.errors import UserError, one_line
from sicl_jax.retrieval.facts import FactTable, Where, camera_reader, facts_of
from sicl_jax.retrieval.folder import View

FLAT_LIMIT = 200_000
"""Images up to which the search is exact; a query then reads 1.6 GB at 2048 dimensions."""

_INDEX = "index.json"
_FORMATS = (1, 2)  # The second may have more than one pair of files.
_MOST_ADDED = 16
"""Additions that are kept apart; the next one writes all anew."""

_MOST_DIMENSIONS = 1_000_000
# What JSON's, NumPy's and faiss' readers raise of files that are not ours.
_NO_INDEX = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, MemoryError)
_NO_INDEX += (RecursionError, OverflowError)
_TRAINING_ROWS_PER_LIST = 64
_SHARE_OF_LISTS_PROBED = 1 / 16


@dataclasses.dataclass(frozen=True)
class Entry:
    """One image of an index.

    Attributes:
        path: Absolute path of the file.
        size: Bytes that it had.
        changed: Its time of change, ns.
        beside: The same of each file beside it that its feature is made of too (a mask, a face),
            as text; empty where there is none.
    """

    path: str
    size: int
    changed: int
    beside: str = ""

    @classmethod
    def below(
        cls,
        folder: pathlib.Path,
        names: Sequence[str],
        beside: Collection[Sequence[pathlib.Path | None]] = (),
    ) -> list[Self]:
        """The entries of files as they are now.

        Args:
            folder: Where they are.
            names: Their paths below it.
            beside: Columns of what lies beside each.

        Raises:
            OSError: One of them is not there.
        """
        real = functools.cache(os.path.realpath)  # Files are many, folders are few.
        found = []
        rows = zip(*beside, strict=True) if beside else itertools.repeat(())
        for row, path in zip(rows, (f"{folder}/{name}" for name in names), strict=False):
            above, _, name = path.rpartition("/")
            path, stat = f"{real(above).rstrip('/')}/{name}", os.lstat(path)
            if not S_ISREG(stat.st_mode):
                path, stat = os.path.realpath(path), pathlib.Path(path).stat()
            others = " ".join(filter(None, map(_stamp, row)))
            found.append(cls(path, stat.st_size, stat.st_mtime_ns, others))
        return found

    @classmethod
    def of_row(cls, row: Any) -> Self:
        """The entry that a file of entries holds, which may come from anywhere."""
        if isinstance(row, list) and len(row) == 3:  # Of an index that knew files alone.
            row = [*row, ""]
        if not _ENTRY(row):
            raise ValueError("an entry that is none")
        return cls(*row)


@dataclasses.dataclass(frozen=True, eq=False)
class Hits:
    """What a search found. Where the index has fewer images, `rows` are -1.

    Attributes:
        rows: (Q, K) places in `GalleryIndex.entries`, most similar first.
        similarities: (Q, K) cosine.
    """

    rows: Int64[np.ndarray, "Q K"]
    similarities: Float32[np.ndarray, "Q K"]


@dataclasses.dataclass(frozen=True)
class Hit:
    """One image found.

    Attributes:
        path: Absolute path of the file.
        similarity: Product of the features: the cosine where they are unit rows.
    """

    path: str
    similarity: float


class Searchable(abc.ABC):
    """What finds the files most like others, wherever their features are."""

    @abc.abstractmethod
    def nearest(
        self, features: Float32[np.ndarray, "Q D"], count: int, where: Where
    ) -> list[list[Hit]]:
        """The files most like each query, at most so many, of those that may be found."""

    def find(
        self,
        features: Float32[np.ndarray, "Q D"],
        top: int,
        *,
        where: Where = Where(),  # noqa: B008 - frozen.
        without: Sequence[Collection[str]] = (),
    ) -> list[list[Hit]]:
        """The files most like each query.

        Args:
            features: Of the queries.
            top: At most so many.
            where: Which images may be found.
            without: For each query, paths that are not to be found; none if empty.
        """
        without = without or [()] * len(features)
        found = self.nearest(features, top + max(map(len, without), default=0), where)
        return [
            [hit for hit in hits if hit.path not in left_out][:top]
            for hits, left_out in zip(found, without, strict=True)
        ]


class GalleryIndex(Searchable):
    """Features of files, searchable.

    Attributes:
        model: What made the features (`Model.about`).
        view: How images were looked at.
        camera: Where paths say the camera (`facts.camera_reader`).
        entries: The files.
    """

    def __init__(self, model: dict, view: View, dimensions: int, camera: str | None = None):
        """An empty index."""
        self.model = model
        self.view = view
        self.camera = camera
        self.entries: list[Entry] = []
        self._vectors = faiss.IndexFlatIP(dimensions)
        self._facts: FactTable | None = None
        self._rows: dict[str, int] | None = None
        self._lock = threading.RLock()
        self._on_disk: tuple[int, int] | None = None  # `stamp` of what has the first rows alike.
        self._rows_on_disk = 0

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def dimensions(self) -> int:
        """Size of a feature."""
        return self._vectors.d

    @property
    def is_exact(self) -> bool:
        """Whether the search compares with every image."""
        return isinstance(self._vectors, faiss.IndexFlat)

    # ---- change ----------------------------------------------------------------------------

    def add(
        self,
        entries: Sequence[Entry],
        features: Float32[np.ndarray, "N D"],
        *,
        flat_limit: int = FLAT_LIMIT,
    ) -> None:
        """Adds files; those of a path that is there already take its place."""
        self.remove({entry.path for entry in entries})
        vectors = np.ascontiguousarray(features, np.float32)
        total = len(self) + len(vectors)
        outgrown = total > flat_limit if self.is_exact else 2 * self._vectors.nlist < _lists(total)
        if outgrown:
            self._vectors = _trained_lists(np.concatenate([self.features(), vectors]))
            self._on_disk = None
        else:
            self._vectors.add(vectors)
        self.entries += entries
        self._facts = self._rows = None

    def remove(self, paths: Collection[str]) -> int:
        """Removes the entries of these absolute paths, as far as there are any.

        Returns:
            How many there were.
        """
        kept = [row for row, entry in enumerate(self.entries) if entry.path not in paths]
        removed = len(self) - len(kept)
        if removed:
            vectors = self.features()[kept]
            self._vectors.reset()  # The lists' centres stay.
            self._vectors.add(vectors)
            self.entries = [self.entries[row] for row in kept]
            self._facts = self._rows = self._on_disk = None
        return removed

    def features(self) -> Float32[np.ndarray, "N D"]:
        """The features of all entries, in their order."""
        return self._vectors.reconstruct_n(0, len(self))

    # ---- search ----------------------------------------------------------------------------

    @property
    def facts(self) -> FactTable:
        """What the files' paths say, in the order of `entries`."""
        with self._lock:
            if self._facts is None:
                read = camera_reader(self.camera)
                self._facts = FactTable([facts_of(e.path, e.changed, read) for e in self.entries])
            return self._facts

    @property
    def rows(self) -> dict[str, int]:
        """The places in `entries` by path."""
        with self._lock:
            if self._rows is None:
                self._rows = {entry.path: row for row, entry in enumerate(self.entries)}
                if not self.is_exact:
                    self._vectors.make_direct_map()
            return self._rows

    def features_of(self, paths: Sequence[str]) -> Float32[np.ndarray, "N D"]:
        """The features of some files; all of them have to be here."""
        rows = [self.rows[path] for path in paths]
        found = [self._vectors.reconstruct(row) for row in rows]
        return np.stack(found) if found else np.zeros((0, self._vectors.d), np.float32)

    def search(
        self,
        features: Float32[np.ndarray, "Q D"],
        top: int,
        passed: Bool[np.ndarray, "N"] | None = None,
    ) -> Hits:
        """The `top` most similar images of each query, of those that `passed` where it is given.

        Where images have to pass, the search is exact whatever the index.
        """
        features = np.ascontiguousarray(features, np.float32)
        top = max(1, min(top, len(self)))
        if passed is None:
            similarities, rows = self._vectors.search(features, top)
            return Hits(rows, similarities)
        bits = np.packbits(passed, bitorder="little")
        selector = faiss.IDSelectorBitmap(bits)
        if self.is_exact:
            how = faiss.SearchParameters(sel=selector)
        else:  # Those that pass may lie in any list.
            how = faiss.SearchParametersIVF(sel=selector, nprobe=self._vectors.nlist)
        similarities, rows = self._vectors.search(features, top, params=how)
        return Hits(rows, similarities)

    def nearest(
        self, features: Float32[np.ndarray, "Q D"], count: int, where: Where
    ) -> list[list[Hit]]:
        """As `Searchable` says."""
        hits = self.search(features, count, self.facts.mask(where) if where else None)
        return [
            [
                Hit(self.entries[row].path, float(similarity))
                for row, similarity in zip(rows, similarities, strict=True)
                if row >= 0
            ]
            for rows, similarities in zip(hits.rows, hits.similarities, strict=True)
        ]

    # ---- on disk ---------------------------------------------------------------------------

    def save(self, folder: pathlib.Path) -> None:
        """Writes the index; what the folder held before stays whole until the end.

        Where the folder has its first rows already, the others alone are written.

        Raises:
            UserError: The folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            before = json.loads(_text(folder)) if is_index(folder) else {}
            number, first, pairs = before.get("number", 0) + 1, 0, []
            if before and stamp(folder) == self._on_disk and len(_pairs(before)) <= _MOST_ADDED:
                first, pairs = self._rows_on_disk, _pairs(before)
            if first < len(self) or not pairs:
                pairs = [*pairs, (f"vectors-{number}.faiss", f"entries-{number}.json")]
                vectors, entries = pairs[-1]
                with atomic_file(folder / vectors) as file:
                    faiss.write_index(
                        self._vectors_from(first), faiss.PyCallbackIOWriter(file.write)
                    )
                with atomic_file(folder / entries) as file:
                    rows = [(e.path, e.size, e.changed, e.beside) for e in self.entries[first:]]
                    file.write(json.dumps(rows).encode())
            about = {
                "format": _FORMATS[len(pairs) > 1],
                "number": number,
                "images": len(self),
                "dimensions": self._vectors.d,
                "exact": self.is_exact,
                "model": self.model,
                "view": dataclasses.asdict(self.view),
                "camera": self.camera,
                "vectors": pairs[0][0],
                "entries": pairs[0][1],
                "more": pairs[1:],
            }
            with atomic_file(folder / _INDEX) as file:
                file.write((json.dumps(about, indent=2) + "\n").encode())
            self._on_disk, self._rows_on_disk = stamp(folder), len(self)
            for name in {*itertools.chain(*_pairs(before))} - {*itertools.chain(*pairs)}:
                (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"--index {folder}: cannot be written ({error.strerror})") from error

    def _vectors_from(self, first: int) -> faiss.Index:
        """An index of the vectors of the rows from one on."""
        if not first:
            return self._vectors
        if self.is_exact:
            part = faiss.IndexFlatIP(self.dimensions)
            part.add(self._vectors.reconstruct_n(first, len(self) - first))
            return part
        whole = self._vectors
        part = faiss.IndexIVFFlat(whole.quantizer, whole.d, whole.nlist, faiss.METRIC_INNER_PRODUCT)
        whole.copy_subset_to(part, faiss.InvertedLists.SUBSET_TYPE_ID_RANGE, first, len(self))
        return part

    @classmethod
    def open(cls, folder: pathlib.Path) -> Self:
        """Reads an index.

        Raises:
            UserError: There is none, or it is damaged.
        """
        if not is_index(folder):
            raise UserError(f"--index {folder}: no index here; make one with `sicl-jax index`")
        while True:
            before = stamp(folder)
            try:
                index = cls._open(folder)
                index._on_disk, index._rows_on_disk = before, len(index)
                return index
            except _NO_INDEX as error:
                if stamp(folder) != before:  # Somebody else has changed it meanwhile.
                    continue
                raise UserError(
                    f"--index {folder}: damaged ({one_line(error)}); make it anew"
                ) from error

    @classmethod
    def _open(cls, folder: pathlib.Path) -> Self:
        about = json.loads(_text(folder))
        if about["format"] not in _FORMATS:
            raise ValueError(f"format {about['format']}, this program reads {_FORMATS[-1]}")
        if not _ABOUT(about):
            raise ValueError("it describes no index")
        view = View(**about["view"])
        index = cls(about["model"], view, about["dimensions"], about.get("camera"))
        parts = []
        for vectors, entries in _pairs(about):
            rows = json.loads((folder / entries).read_text())
            parts.append(_read_vectors(folder / vectors))
            if parts[-1].ntotal != len(rows) or parts[-1].d != about["dimensions"]:
                raise ValueError("its files do not belong together")
            index.entries += [Entry.of_row(row) for row in rows]
        index._vectors = parts[0]
        for part in parts[1:]:
            try:
                index._vectors.merge_from(part, 0)
            except RuntimeError as error:  # It speaks of its own source files.
                raise ValueError("its files do not belong together") from error
        return index


_ABOUT = schema.record(
    {
        "number": schema.count(),
        "dimensions": schema.count(1, _MOST_DIMENSIONS),
        "model": schema.record(
            {
                "workdir": schema.text(),
                "model": schema.text(),
                "step": schema.maybe(schema.count()),
            }
        ),
        "view": schema.record({"stream": schema.text(), "flip": schema.flag}, others=False),
        "vectors": schema.text(),
        "entries": schema.text(),
    },
    {
        "camera": schema.maybe(schema.text()),
        "more": schema.array(schema.sequence(schema.text(), schema.text())),
    },
)
_ENTRY = schema.sequence(schema.text(), schema.count(), schema.count(), schema.text())


def _stamp(file: pathlib.Path | None) -> str:
    """Size and time of change of a file; empty if there is none."""
    try:
        stat = file and file.stat()
    except OSError:  # Whoever reads it tells.
        stat = None
    return f"{stat.st_size}@{stat.st_mtime_ns}" if stat else ""


def is_index(folder: pathlib.Path) -> bool:
    """Whether a folder holds an index."""
    return (folder / _INDEX).is_file()


def stamp(folder: pathlib.Path) -> tuple[int, int] | None:
    """What changes whenever an index does; None where there is none."""
    try:
        stat = (folder / _INDEX).stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def _read_vectors(file: pathlib.Path) -> faiss.Index:
    """Reads what `save` wrote; sets no more memory aside at a time than the file is large."""
    faiss.set_deserialization_vector_byte_limit(file.stat().st_size)
    try:
        return faiss.read_index(str(file))
    except RuntimeError as error:  # It speaks of its own source files.
        raise ValueError(f"{file.name} is cut or damaged") from error


def _text(folder: pathlib.Path) -> str:
    return (folder / _INDEX).read_text()


def _pairs(about: dict) -> list[tuple[str, str]]:
    """Files of vectors and of entries that an index consists of, in order; names alone."""
    named = [(about["vectors"], about["entries"]), *about.get("more", ())] if about else []
    return [tuple(pathlib.PurePath(name).name for name in pair) for pair in named]


def _lists(total: int) -> int:
    """How many lists an inverted file of so many vectors should have."""
    return max(1, 4 * math.isqrt(total))


def _trained_lists(vectors: Float32[np.ndarray, "N D"]) -> faiss.IndexIVFFlat:
    """An inverted file trained on the vectors, and with them in it."""
    count, size = len(vectors), vectors.shape[1]
    lists = _lists(count)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(size), size, lists, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = max(8, round(lists * _SHARE_OF_LISTS_PROBED))
    sample = np.random.default_rng(0).permutation(count)[: _TRAINING_ROWS_PER_LIST * lists]
    index.train(vectors[np.sort(sample)])
    index.add(vectors)
    return index
