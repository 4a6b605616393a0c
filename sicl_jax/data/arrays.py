"""A prepared data set's columns: made once, kept beside the data set."""

import concurrent.futures
import contextlib
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import Int32, UInt8

from sicl_jax.data import files, sealed
from sicl_jax.data.card import summarise
from sicl_jax.data.pixels import Form
from sicl_jax.data.store import Store, damaged, record_digest
from sicl_jax.errors import UserError, one_line
from tfds_builders.reid import digest, workers
from tfds_builders.reid.features import LABELS, PICTURES

_HAS = tuple(f"has_{picture}" for picture in PICTURES if picture != "image")


class Arrays:
    """Makes and reads the columns of one data set, a file for each.

    They lie in `<folder>/<fingerprint>/`. Each file appears whole or not at all, so a process may
    be killed at any point, and several may make the same files at once.

    Attributes:
        forms: How each picture column is resized.
        fingerprint: Hash of all examples.
    """

    def __init__(self, store: Store, forms: Mapping[str, Form], folder: pathlib.Path | None = None):
        """Finds the fingerprint, or computes it where the builder noted none down.

        Args:
            store: The prepared data set.
            forms: The picture columns that may be asked for.
            folder: Where to keep the files; beside the data set if None.
        """
        self.forms = forms
        self.fingerprint = store.metadata.get("fingerprint") or summarise(store)["fingerprint"]
        self._store = store
        self._folder = (folder or store.directory / "arrays") / self.fingerprint

    def labels(self, split: str) -> tuple[dict[str, Int32[np.ndarray, "N"]], tuple[str, ...]]:
        """Returns the label columns, (N,) int32 each, and the N file names.

        Raises:
            UserError: The data set or the file is damaged, or the file cannot be written.
        """
        path = self._folder / f"{split}.labels.npz"
        if not path.exists():
            with self._writing():
                self._write_labels(split, path)
        try:
            with np.load(path) as archive:
                columns = dict(archive)
            kinds = {key: (column.shape, column.dtype.kind) for key, column in columns.items()}
            shape = (self._store.examples[split],)
            wanted = dict.fromkeys((*LABELS, *_HAS), (shape, "i")) | {"file_name": (shape, "U")}
            if kinds != wanted:
                raise ValueError("other columns than were written")
        except Exception as error:  # NumPy and zipfile raise many kinds of errors.
            raise _damaged_array(path, error) from error
        names = tuple(columns.pop("file_name").tolist())
        return columns, names

    def pixels(self, split: str, column: str) -> UInt8[np.ndarray, "N ..."]:
        """Returns the pictures of a column, read-only; 0 where a sample has none.

        Raises:
            UserError: As for `labels`.
            KeyError: The column is not among `forms`.
        """
        form = self.forms[column]
        shape = (self._store.examples[split], *form.shape)
        if column != "image" and not self.labels(split)[0][f"has_{column}"].any():
            return np.broadcast_to(np.uint8(0), shape)
        path = self._folder / f"{split}.{column}.{form}.npy"
        if not path.exists():
            with self._writing():
                self._write_pixels(split, column, path)
        try:
            return sealed.read(path, shape)
        except (OSError, ValueError) as error:
            raise _damaged_array(path, error) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Translates the disk's errors."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise UserError(
                f"cannot write arrays to {self._folder}: {error.strerror or error}; make room "
                "there, or give a folder of your own as cache_dir"
            ) from error

    def _write_labels(self, split: str, path: pathlib.Path) -> None:
        columns = {key: [] for key in (*LABELS, *_HAS, "file_name")}
        for records in self._records(split):
            for key, values in columns.items():
                values.extend(record[key] for record in records)
        arrays = {
            key: np.asarray(values, np.str_ if key == "file_name" else np.int32)
            for key, values in columns.items()
        }
        with files.atomic_file(path) as file:
            np.savez(file, **arrays)

    def _write_pixels(self, split: str, column: str, path: pathlib.Path) -> None:
        form = self.forms[column]
        absent = bytes(math.prod(form.shape))

        def decoded(record: dict) -> bytes:
            if record[column] is None:
                return absent
            try:
                return form.decode(record[column]).tobytes()
            except UserError as error:
                raise UserError(
                    f"{self._store.directory}: {record['file_name']}: {error}"
                ) from error
            except Exception as error:  # PIL's codecs raise many kinds of errors.
                raise damaged(self._store.directory, f"{record['file_name']}: {error}") from error

        with (
            files.atomic_file(path) as file,
            concurrent.futures.ThreadPoolExecutor(workers.usable_cores()) as pool,
        ):
            sealed.write_header(file, (self._store.examples[split], *form.shape))
            for records in self._records(split, pool.map):
                file.write(b"".join(pool.map(decoded, records)))
            sealed.seal(file)

    def _records(self, split: str, map_: Callable = map) -> Iterator[list[dict]]:
        """Yields the examples of a split, some hundreds at a time, and compares them in the end.

        Raises:
            UserError: They are not those that the builder wrote, where it noted a digest.
        """
        digests = []
        for records in self._store.records(split):
            digests.extend(map_(record_digest, records))
            yield records
        noted = self._store.metadata.get("split_digests", {}).get(split)
        if noted and noted != digest.split_digest(digests):
            raise damaged(self._store.directory, f"split {split} differs from what was prepared")


def _damaged_array(path: pathlib.Path, reason: Exception) -> UserError:
    return UserError(f"{path} is damaged ({one_line(reason)}); remove it, and it is made anew")
