"""Several prepared data sets as one: trained on together, each tested on its own."""

import hashlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32

from sicl_jax.data.dataset import Pixels, ReidDataset, Split
from sicl_jax.errors import UserError
from sicl_jax.register import part_name, parts_of
from tfds_builders.reid.features import LABELS, PICTURES, UNKNOWN

_TRAIN = "train"
# Numbers that mean something within one data set alone; those of modalities mean the same in all.
_COUNTED_ON = ("identity", "camera", "clothes", "tracklet")


class Rows:
    """Arrays one after the other, read where they lie; as much of an array as training asks for.

    Attributes:
        shape: Of all of them together, (N, ...).
        dtype: Of their elements.
    """

    def __init__(self, arrays: Sequence[np.ndarray]):
        self._arrays = list(arrays)
        self._ends = np.cumsum([len(array) for array in arrays])
        self.shape = (int(self._ends[-1]), *arrays[0].shape[1:])
        self.dtype = arrays[0].dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The rows of a slice, an array of row numbers, or one row."""
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        return self.take(rows)

    def take(self, rows: Any, axis: int = 0, out: None = None, mode: str = "raise") -> np.ndarray:
        """What `np.take(array, rows, axis=0)` gives.

        Raises:
            IndexError: There is no such row.
        """
        assert axis == 0 and out is None and mode == "raise", "rows alone can be taken"
        rows = np.asarray(rows)
        flat = np.where(rows < 0, rows + len(self), rows).ravel()
        if flat.size and not (flat.min() >= 0 and flat.max() < len(self)):
            raise IndexError(f"rows {flat.min()} to {flat.max()} of {len(self)}")
        taken = np.empty((len(flat), *self.shape[1:]), self.dtype)
        which = np.searchsorted(self._ends, flat, side="right")
        for number, array in enumerate(self._arrays):
            of_it = np.flatnonzero(which == number)
            taken[of_it] = array[flat[of_it] - (self._ends[number] - len(array))]
        return taken.reshape((*rows.shape, *self.shape[1:]))


class JoinedDataset(ReidDataset):
    """Data sets as one; as `ReidDataset`, but for what is said here.

    The training images of all make up the split `train`. Identities, cameras, outfits and tracklets
    are numbered on from one data set to the next, so that no two of them have one in common. A
    column that one of them lacks altogether (masks, say, or outfits) is dropped, as if none had it.
    The test splits stay what they are, named `prcc/query_same` and so on.

    Attributes:
        notes: Which columns were dropped, and which data sets have no training images.
    """

    def __init__(self, name: str, data_dir: str | pathlib.Path, load: Callable[[str], ReidDataset]):
        """Opens the parts.

        Args:
            name: Names of data sets with `+` between them.
            data_dir: Where they were prepared.
            load: Opens one of them.

        Raises:
            UserError: One is missing or damaged, or none has training images.
        """
        parts = {part: load(part) for part in parts_of(name)}
        self.name = name
        self.directory = pathlib.Path(data_dir)
        known = "".join(f"{part}:{found.fingerprint};" for part, found in parts.items())
        self.fingerprint = hashlib.blake2b(known.encode(), digest_size=16).hexdigest()
        lists = (p.changing_identities for p in parts.values())  # Of LTCC's alone, so far.
        self.changing_identities = next((each for each in lists if each is not None), None)
        self._of_part = {
            part_name(part, split): (found, split)
            for part, found in parts.items()
            for split in found.split_names
            if split != _TRAIN
        }
        trained = {part: p.split(_TRAIN) for part, p in parts.items() if _TRAIN in p.split_names}
        if not trained:
            raise UserError(f"{name}: none of these data sets has training images; add one")
        self.split_names = (_TRAIN, *self._of_part)
        dropped = _lacking(trained)
        self._splits = {_TRAIN: _join(trained, dropped)}
        idle = [f"{part} has no training images" for part in parts if part not in trained]
        self.notes = tuple(
            f"{name}: {words}"
            for words in (
                *(f"{column} is dropped, which {lacks} lacks" for column, lacks in dropped.items()),
                *idle,
            )
        )

    def split(self, name: str) -> Split:
        """Returns the joined training split, or a test split of one of the parts; as there."""
        if name in self._of_part:
            dataset, own = self._of_part[name]
            return dataset.split(own)
        return super().split(name)


def _lacking(parts: Mapping[str, Split]) -> dict[str, str]:
    """The columns that not all have, each with the names of the data sets that lack it."""
    lacking = {}
    for column in (*LABELS, *(picture for picture in PICTURES if picture != "image")):
        have = [part for part, split in parts.items() if _has(split, column)]
        if have and len(have) < len(parts):
            lacking[column] = ", ".join(part for part in parts if part not in have)
    return lacking


def _has(split: Split, column: str) -> bool:
    values = split.labels[f"has_{column}" if column in PICTURES else column]
    return bool((values > 0 if column in PICTURES else values != UNKNOWN).any())


def _join(parts: Mapping[str, Split], dropped: Mapping[str, str]) -> Split:
    splits = list(parts.values())
    labels = {}
    for column in splits[0].labels:
        if column.removeprefix("has_") in dropped:
            nothing = 0 if column.startswith("has_") else UNKNOWN
            labels[column] = np.full(sum(map(len, splits)), nothing, np.int32)
        elif column in _COUNTED_ON:
            labels[column] = _numbered_on([split.labels[column] for split in splits])
        else:
            labels[column] = np.concatenate([split.labels[column] for split in splits])
    names = (part_name(part, name) for part, split in parts.items() for name in split.names)

    def pixels(column: str) -> Rows:
        arrays = [split.pixels[column] for split in splits]
        if column in dropped:
            arrays = [np.broadcast_to(np.uint8(0), array.shape) for array in arrays]
        return Rows(arrays)

    return Split(Pixels(splits[0].pixels, pixels), labels, tuple(names))


def _numbered_on(columns: Sequence[np.ndarray]) -> Int32[np.ndarray, "N"]:
    """Labels of each, those of the next beginning above the largest of the one before."""
    found, start = [], 0
    for column in columns:
        found.append(np.where(column == UNKNOWN, UNKNOWN, column + start).astype(np.int32))
        start += int(column.max(initial=UNKNOWN)) + 1
    return np.concatenate(found)
