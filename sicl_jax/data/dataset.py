"""A prepared data set as columns: the way in for training, evaluation and reports."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from sicl_jax.data.arrays import Arrays
from sicl_jax.data.pixels import MASK_MODES, Form
from sicl_jax.data.store import Store, damaged, find_directory
from sicl_jax.errors import UsageError, UserError
from sicl_jax.register import DRAW, parts_of
from tfds_builders.reid.features import PICTURES


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        pixels: Pictures by column (`image`, `mask`, `face`, `face_restored`), each (N, H, W, 3) or,
            for masks, (N, H, W) uint8: read-only memory maps, made on first use ever. What a sample
            lacks is 0.
        labels: (N,) int32 by column: `identity`, `camera`, `clothes` (no two persons share a
            number), `tracklet` and `modality` (0 visible, 1 infrared), -1 where unknown;
            `has_<picture>` (0 or 1) for every picture but the image; and where the data set has
            galleries drawn by its authors `draw_0`, ..., the image's place in each trial's order.
        names: Path of each image below the raw folder.
    """

    pixels: Mapping[str, UInt8[np.ndarray, "N ..."]]
    labels: Mapping[str, Int32[np.ndarray, "N"]]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def all_have(self, picture: str) -> bool:
        """Returns whether no sample lacks this picture, such as `mask`."""
        return picture == "image" or bool(self.labels[f"has_{picture}"].all())


class Pixels(Mapping):
    """The picture columns of a split, each opened (and made, if need be) when it is asked for.

    Args:
        columns: Their names.
        open_column: Opens one.
    """

    def __init__(self, columns: Iterable[str], open_column: Callable[[str], Any]):
        self._columns = tuple(columns)
        self._open = functools.cache(open_column)

    def __getitem__(self, column: str) -> UInt8[np.ndarray, "N ..."]:
        return self._open(column)

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class ReidDataset:
    """A prepared data set.

    Attributes:
        notes: What is odd about it, in words; nothing.
        name: `prcc`, or with a builder config `synthetic_people/demo`.
        directory: Folder of the data set's files.
        fingerprint: Hash of all examples; equal for data sets prepared twice from the same files.
        split_names: The splits that `split` gives.
        changing_identities: People who change clothes by the data set's own list; None if it
            brings none.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, store: Store, arrays: Arrays):
        self.name = store.full_name
        self.directory = store.directory
        self.fingerprint = arrays.fingerprint
        self.split_names = tuple(store.examples)
        self.changing_identities = store.metadata.get("changing_identities")
        self._draws = store.metadata.get("draws", {})
        self._arrays = arrays
        self._splits: dict[str, Split] = {}

    def split(self, name: str) -> Split:
        """Returns a split; its pictures are decoded and resized on first use ever.

        Raises:
            UserError: There is no such split, its files are damaged, or the arrays cannot be
                written. The same holds for the columns of `pixels`, when they are asked for.
        """
        if name not in self.split_names:
            raise UserError(
                f"data set {self.name} has no split {name!r}; it has {', '.join(self.split_names)}"
            )
        if name not in self._splits:
            labels, names = self._arrays.labels(name)
            for trial, places in enumerate(self._draws.get(name, ())):
                if len(places) != len(names):
                    raise damaged(self.directory, f"draws of {len(places)} images of {len(names)}")
                labels[DRAW.format(trial)] = np.asarray(places, np.int32)
            pixels = Pixels(self._arrays.forms, functools.partial(self._arrays.pixels, name))
            self._splits[name] = Split(pixels, labels, names)
        return self._splits[name]


def load_dataset(
    name: str,
    data_dir: str | pathlib.Path,
    *,
    forms: Mapping[str, Form] | None = None,
    cache_dir: str | pathlib.Path | None = None,
) -> ReidDataset:
    """Opens a prepared data set.

    Args:
        name: `prcc`, or with a builder config `synthetic_people/demo`; with `+` between them,
            several data sets as one (`joined.JoinedDataset`).
        data_dir: Where it was prepared.
        forms: The picture columns to read and how each is resized; images of 256 x 128 pixels if
            None.
        cache_dir: Where to keep the resized arrays; beside the data set if None.

    Raises:
        UserError: The data set is missing or damaged.
        UsageError: An argument is wrong.
    """
    forms = {"image": Form((256, 128))} if forms is None else dict(forms)
    for column, form in forms.items():
        if column not in PICTURES:
            raise UsageError(f"there is no picture {column!r}; use {', '.join(PICTURES)}")
        modes = MASK_MODES if column == "mask" else ("rgb",)
        if form.mode not in modes:
            raise UsageError(f"mode {form.mode!r} is none of a {column}'s: {', '.join(modes)}")
    if len(parts_of(name)) > 1:
        from sicl_jax.data.joined import JoinedDataset  # It reads what this module makes.

        options = {"forms": forms, "cache_dir": cache_dir}
        return JoinedDataset(name, data_dir, lambda part: load_dataset(part, data_dir, **options))
    store = Store(find_directory(name, data_dir))
    folder = pathlib.Path(cache_dir).expanduser() if cache_dir else None
    return ReidDataset(store, Arrays(store, forms, folder))
