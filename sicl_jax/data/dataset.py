"""A prepared data set as arrays: the way in for training, evaluation and reports."""

import dataclasses
import pathlib

import numpy as np
from jaxtyping import Int32, UInt8

from sicl_jax.data.arrays import Arrays
from sicl_jax.data.pixels import MASK_MODES
from sicl_jax.data.store import Store, find_directory
from sicl_jax.errors import UsageError, UserError


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a data set; images and masks are read-only memory maps.

    Attributes:
        images: (N, H, W, 3) uint8 RGB.
        masks: (N, H, W) uint8 grey, or None unless every image of the split has a mask.
        identities: (N,) int32, -1 unknown.
        cameras: (N,) int32, -1 unknown.
        clothes: (N,) int32, -1 unknown; no two persons share a number.
        tracklets: (N,) int32, -1 unknown.
        names: path of each image below the raw folder.
    """

    images: UInt8[np.ndarray, "N H W 3"]
    masks: UInt8[np.ndarray, "N H W"] | None
    identities: Int32[np.ndarray, "N"]
    cameras: Int32[np.ndarray, "N"]
    clothes: Int32[np.ndarray, "N"]
    tracklets: Int32[np.ndarray, "N"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labels(self) -> dict[str, Int32[np.ndarray, "N"]]:
        """The labels by their singular names."""
        return {
            "identity": self.identities,
            "camera": self.cameras,
            "clothes": self.clothes,
            "tracklet": self.tracklets,
        }


class ReidDataset:
    """A prepared data set.

    Attributes:
        name: builder name, such as `prcc`.
        config_name: builder config, such as `demo`, or None.
        directory: folder of the data set's files.
        fingerprint: hash of all examples; equal for data sets prepared twice from the same files.
        split_names: the splits that `split` gives.
    """

    def __init__(self, store: Store, arrays: Arrays):
        self.name = store.name
        self.config_name = store.config_name
        self.directory = store.directory
        self.fingerprint = arrays.fingerprint
        self.split_names = tuple(store.examples)
        self._arrays = arrays
        self._splits: dict[str, Split] = {}

    def split(self, name: str) -> Split:
        """Gives a split, decoding and resizing its images on first use ever.

        Raises:
            UserError: there is no such split, its files are damaged, or the arrays cannot be
                written.
        """
        if name not in self.split_names:
            raise UserError(
                f"data set {self.name} has no split {name!r}; it has {', '.join(self.split_names)}"
            )
        if name not in self._splits:
            self._splits[name] = self._read(name)
        return self._splits[name]

    def _read(self, name: str) -> Split:
        labels = self._arrays.labels(name)
        return Split(
            images=self._arrays.images(name),
            masks=self._arrays.masks(name) if labels["has_mask"].all() else None,
            identities=labels["identity"],
            cameras=labels["camera"],
            clothes=labels["clothes"],
            tracklets=labels["tracklet"],
            names=tuple(labels["file_name"].tolist()),
        )


def load_dataset(
    name: str,
    data_dir: str | pathlib.Path,
    *,
    image_size: tuple[int, int] = (256, 128),
    mask_mode: str = "silhouette",
    cache_dir: str | pathlib.Path | None = None,
) -> ReidDataset:
    """Opens a prepared data set.

    Args:
        name: `prcc`, or with a builder config `synthetic_people/demo`.
        data_dir: where it was prepared.
        image_size: height and width in pixels that images and masks are resized to.
        mask_mode: `silhouette` (255 where not background) or `parsing` (luminance of the
            palette's colours).
        cache_dir: where to keep the resized arrays; beside the data set if None.

    Raises:
        UserError: the data set is missing or damaged.
        UsageError: an argument is wrong.
    """
    if mask_mode not in MASK_MODES:
        raise UsageError(f"mask_mode {mask_mode!r} is unknown; use {' or '.join(MASK_MODES)}")
    if len(image_size) != 2 or min(image_size) < 1:
        raise UsageError(f"image_size {image_size} must be height and width, at least 1 pixel")
    store = Store(find_directory(name, data_dir))
    folder = pathlib.Path(cache_dir).expanduser() if cache_dir else None
    return ReidDataset(store, Arrays(store, tuple(image_size), mask_mode, folder))
