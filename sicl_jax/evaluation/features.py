"""Features of a split with the labels that a test protocol reads."""

import dataclasses
from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32

from sicl_jax.errors import UserError

UNKNOWN = -1
"""The label of what is not known; an unknown label equals no label, not even itself."""

LABELS = ("identity", "camera", "clothes", "tracklet", "modality")

Similarity = Literal["euclidean", "dot"]
SIMILARITIES = ("euclidean", "dot")


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureSet:
    """One row of features and labels for each image of a split.

    Attributes:
        features: (N, D) float32, finite.
        labels: (N,) int32 arrays by name, -1 unknown: `identity` (-1 marks a distractor, which
            matches no query), `camera`, `clothes` (only compared within an identity), `tracklet`
            and `modality`, all unknown where they are not given; and any others that a data set's
            own rules read.
        names: File names, one for each image, or None.
        similarity: What makes two images near: `euclidean`, a small squared Euclidean distance
            (for unit rows the order of the cosine), or `dot`, a large inner product: the distance
            is 1 - a . b then, which may be negative.
    """

    features: Float32[np.ndarray, "N D"]
    labels: Mapping[str, Int32[np.ndarray, "N"]]
    names: tuple[str, ...] | None = None
    similarity: Similarity = "euclidean"

    def __post_init__(self):
        """Brings arrays to their types and checks them.

        Raises:
            UserError: A shape does not fit the others, a feature is not finite, or the similarity
                is unknown.
        """
        features = np.ascontiguousarray(self.features, dtype=np.float32)
        if features.ndim != 2:
            raise UserError(f"features have shape {features.shape}; give one row per image, (N, D)")
        if self.similarity not in SIMILARITIES:
            raise UserError(f"similarity {self.similarity!r}: give {' or '.join(SIMILARITIES)}")
        object.__setattr__(self, "features", features)
        unknown = np.full(len(features), UNKNOWN, np.int32)
        labels = {
            name: self._checked(name, values)
            for name, values in {**dict.fromkeys(LABELS, unknown), **self.labels}.items()
        }
        object.__setattr__(self, "labels", labels)
        if self.names is not None:
            object.__setattr__(self, "names", tuple(self.names))
            if len(self.names) != len(features):
                raise UserError(
                    f"{len(self.names)} names for {len(features)} rows of features; give one each"
                )
        self._check_finite()

    def _checked(self, label: str, values) -> Int32[np.ndarray, "N"]:
        values = np.asarray(values)
        expected = (len(self.features),)
        if values.shape != expected:
            raise UserError(
                f"label {label} has shape {values.shape}; the features ask for {expected}"
            )
        if values.dtype.kind not in "iu":
            raise UserError(f"label {label} is of type {values.dtype}; give whole numbers")
        if values.size and (values.min() < UNKNOWN or values.max() > np.iinfo(np.int32).max):
            raise UserError(
                f"label {label} reaches from {values.min()} to {values.max()}; "
                "give numbers from 0 up to 2**31 - 1, or -1 for unknown"
            )
        return np.ascontiguousarray(values, dtype=np.int32)

    def _check_finite(self):
        # Distances reach four times the largest squared length, so the overflow of that counts
        # too; and no second array of the features' size is needed.
        with np.errstate(over="ignore", invalid="ignore"):
            squares = 4 * np.einsum("nd,nd->n", self.features, self.features)
        bad = np.flatnonzero(~np.isfinite(squares))
        if bad.size:
            row = int(bad[0])
            name = f" ({self.names[row]})" if self.names is not None else ""
            raise UserError(
                f"features of row {row}{name} are NaN, infinite or huge ({bad.size} such rows); "
                "the model has diverged or its weights are damaged"
            )

    def __len__(self) -> int:
        return len(self.features)

    def label(self, name: str) -> Int32[np.ndarray, "N"]:
        """The labels of any name, all unknown where they were not given."""
        if name in self.labels:
            return self.labels[name]
        return np.full(len(self), UNKNOWN, np.int32)

    def by_tracklet(self) -> Self:
        """One row for each tracklet: the mean of its images' features.

        A tracklet is images that bear the same labels, all of them; an image whose tracklet is
        unknown stays as it is. Where Euclidean distances compare features, a mean is brought to the
        mean length of its images' features: unit rows stay unit rows. A row stands where the
        tracklet's first image stood and bears its name.
        """
        keys = np.stack([*self.labels.values(), np.zeros(len(self), np.int32)], 1)
        alone = self.label("tracklet") == UNKNOWN
        keys[alone, -1] = 1 + np.flatnonzero(alone)
        _, first, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(group.ravel(), kind="stable")
        images = np.split(order, np.cumsum(np.bincount(group.ravel(), minlength=len(first)))[:-1])
        place = np.argsort(first, kind="stable")
        taken = self.take(first[place])
        means = np.empty_like(taken.features)
        for row, tracklet in enumerate(place):
            means[row] = self._mean(self.features[images[tracklet]])
        return dataclasses.replace(taken, features=means)

    def _mean(self, rows: Float32[np.ndarray, "M D"]) -> Float32[np.ndarray, "D"]:
        mean = rows.mean(axis=0, dtype=np.float64)
        length = np.linalg.norm(mean)
        if self.similarity == "euclidean" and len(rows) > 1 and length > 0:
            mean *= np.linalg.norm(rows, axis=1).mean(dtype=np.float64) / length
        return mean.astype(np.float32)

    def take(self, rows: Int[np.ndarray, "M"] | Bool[np.ndarray, "N"]) -> Self:
        """The rows at the given places, or where a mask is true, in that order."""
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if rows.all():
                return self  # Saves a copy of what may be half a gigabyte.
            rows = np.flatnonzero(rows)
        return dataclasses.replace(
            self,
            features=self.features[rows],
            labels={name: values[rows] for name, values in self.labels.items()},
            names=None if self.names is None else tuple(self.names[row] for row in rows),
        )
