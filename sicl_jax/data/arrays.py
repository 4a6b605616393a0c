"""Prepared data sets as arrays: resized once, kept beside the data set as memory maps."""

import concurrent.futures
import pathlib
from collections.abc import Callable

import numpy as np

from sicl_jax.data import files, pixels, sealed
from sicl_jax.data.card import summarise
from sicl_jax.data.store import LABELS, Store, damaged, record_digest
from sicl_jax.errors import UserError, one_line
from tfds_builders.reid import digest, workers


class Arrays:
    """Makes and reads the arrays of one data set.

    They lie in `<folder>/<fingerprint>/`. Each file appears whole or not at all, so a process may
    be killed at any point, and several may make the same arrays at once.
    """

    def __init__(
        self,
        store: Store,
        image_size: tuple[int, int],
        mask_mode: str,
        folder: pathlib.Path | None = None,
    ):
        """Finds the fingerprint, or computes it where the builder noted none down.

        Args:
            store: the prepared data set.
            image_size: height and width in pixels.
            mask_mode: one of `pixels.MASK_MODES`.
            folder: where to keep the arrays; beside the data set if None.
        """
        self._store = store
        self._size = image_size
        self._mode = mask_mode
        self.fingerprint = store.metadata.get("fingerprint") or summarise(store)["fingerprint"]
        self._folder = (folder or store.directory / "arrays") / self.fingerprint

    def labels(self, split: str) -> dict[str, np.ndarray]:
        """Identity, camera, clothes, tracklet: (N,) int32; file_name: str; has_mask: bool."""
        path = self._path(split, "labels.npz")
        if not path.exists():
            self._make(split)
        try:
            with np.load(path) as archive:
                arrays = dict(archive)
            kinds = {key: (array.shape, array.dtype.kind) for key, array in arrays.items()}
            shape = (self._store.examples[split],)
            wanted = dict.fromkeys(LABELS, (shape, "i"))
            if kinds != wanted | {"file_name": (shape, "U"), "has_mask": (shape, "b")}:
                raise ValueError("other arrays than were written")
        except Exception as error:  # NumPy and zipfile raise many kinds of errors.
            raise _damaged_array(path, error) from error
        return arrays

    def images(self, split: str) -> np.ndarray:
        """All images of a split: (N, H, W, 3) uint8, a read-only memory map."""
        return self._mapped(split, "rgb")

    def masks(self, split: str) -> np.ndarray:
        """All masks of a split whose examples all have one: (N, H, W) uint8, a memory map."""
        return self._mapped(split, self._mode)

    def _mapped(self, split: str, kind: str) -> np.ndarray:
        path = self._pixels_path(split, kind)
        if not path.exists():
            self._make(split)
        shape = (self._store.examples[split], *self._size) + ((3,) if kind == "rgb" else ())
        try:
            return sealed.read(path, shape)
        except (OSError, ValueError) as error:
            raise _damaged_array(path, error) from error

    def _pixels_path(self, split: str, kind: str) -> pathlib.Path:
        height, width = self._size
        return self._path(split, f"{kind}_{height}x{width}.npy")

    def _path(self, split: str, suffix: str) -> pathlib.Path:
        return self._folder / f"{split}_{suffix}"

    def _make(self, split: str) -> None:
        """Reads a split once and writes its labels, images and, if all have one, masks."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._write(split)
        except OSError as error:
            raise UserError(
                f"cannot write arrays to {self._folder}: {error.strerror or error}; make room "
                "there, or give a folder of your own as cache_dir"
            ) from error

    def _write(self, split: str) -> None:
        count = self._store.examples[split]
        columns = {key: [] for key in (*LABELS, "file_name", "has_mask")}
        digests = []
        with (
            files.atomic_file(self._pixels_path(split, "rgb")) as images,
            files.atomic_file(self._pixels_path(split, self._mode)) as masks,
            concurrent.futures.ThreadPoolExecutor(workers.usable_cores()) as pool,
        ):
            sealed.write_header(images, (count, *self._size, 3))
            sealed.write_header(masks, (count, *self._size))
            for records in self._store.records(split):
                images.write(b"".join(pool.map(self._image_bytes, records)))
                masks.write(b"".join(pool.map(self._mask_bytes, records)))
                for key, values in columns.items():
                    values.extend(record[key] for record in records)
                digests.extend(pool.map(record_digest, records))
            self._check(split, digests)
            sealed.seal(images)
            sealed.seal(masks)
            if not all(columns["has_mask"]):
                masks.discard()
        arrays = {key: np.asarray(columns[key], np.int32) for key in LABELS}
        arrays["file_name"] = np.asarray(columns["file_name"], dtype=np.str_)
        arrays["has_mask"] = np.asarray(columns["has_mask"], dtype=np.bool_)
        # Last, since `_make` is not called again for a split whose labels are there and that
        # lacks masks.
        with files.atomic_file(self._path(split, "labels.npz")) as labels:
            np.savez(labels, **arrays)

    def _image_bytes(self, record: dict) -> bytes:
        return self._decoded(pixels.resized_image, record["image"], record).tobytes()

    def _mask_bytes(self, record: dict) -> bytes:
        if record["mask"] is None:  # The file is discarded in the end.
            return b""
        return self._decoded(pixels.resized_mask, record["mask"], record, self._mode).tobytes()

    def _decoded(self, decode: Callable, data: bytes, record: dict, *more) -> np.ndarray:
        try:
            return decode(data, self._size, *more)
        except Exception as error:  # PIL's codecs raise many kinds of errors.
            raise damaged(self._store.directory, f"{record['file_name']}: {error}") from error

    def _check(self, split: str, digests: list[bytes]) -> None:
        """Compares what was read with what the builder wrote, where it noted that down."""
        noted = self._store.metadata.get("split_digests", {}).get(split)
        if noted and noted != digest.split_digest(digests):
            raise damaged(self._store.directory, f"split {split} differs from what was prepared")


def _damaged_array(path: pathlib.Path, reason: Exception) -> UserError:
    return UserError(f"{path} is damaged ({one_line(reason)}); remove it, and it is made anew")
