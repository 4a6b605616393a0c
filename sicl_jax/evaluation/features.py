"""Features of a split with the labels that a test protocol reads."""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32

from sicl_jax.errors import UserError

UNKNOWN = -1
"""The label of what is not known; an unknown label equals no label, not even itself."""

LABELS = ("identities", "cameras", "clothes", "tracklets")


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureSet:
    """One row of features and labels for each image of a split.

    Attributes:
        features: (N, D) float32, finite.
        identities: (N,) int32; -1 marks a distractor, which matches no query.
        cameras: (N,) int32, -1 unknown.
        clothes: (N,) int32, -1 unknown; only compared within an identity.
        tracklets: (N,) int32, -1 unknown.
        names: file names, one for each image, or None.
    """

    features: Float32[np.ndarray, "N D"]
    identities: Int32[np.ndarray, "N"]
    cameras: Int32[np.ndarray, "N"]
    clothes: Int32[np.ndarray, "N"]
    tracklets: Int32[np.ndarray, "N"]
    names: tuple[str, ...] | None = None

    def __post_init__(self):
        """Bring arrays to their types and check them.

        Raises:
            UserError: a shape does not fit the others, or a feature is not finite.
        """
        features = np.ascontiguousarray(self.features, dtype=np.float32)
        if features.ndim != 2:
            raise UserError(f"features have shape {features.shape}; give one row per image, (N, D)")
        object.__setattr__(self, "features", features)
        for label in LABELS:
            object.__setattr__(self, label, self._checked_labels(label))
        if self.names is not None:
            object.__setattr__(self, "names", tuple(self.names))
            if len(self.names) != len(features):
                raise UserError(
                    f"{len(self.names)} names for {len(features)} rows of features; give one each"
                )
        self._check_finite()

    def _checked_labels(self, label: str) -> Int32[np.ndarray, "N"]:
        values = np.asarray(getattr(self, label))
        expected = (len(self.features),)
        if values.shape != expected:
            raise UserError(f"{label} have shape {values.shape}; the features ask for {expected}")
        if values.dtype.kind not in "iu":
            raise UserError(f"{label} are of type {values.dtype}; give whole numbers")
        if values.size and (values.min() < UNKNOWN or values.max() > np.iinfo(np.int32).max):
            raise UserError(
                f"{label} reach from {values.min()} to {values.max()}; "
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

    def take(self, rows: Int[np.ndarray, "M"] | Bool[np.ndarray, "N"]) -> Self:
        """The rows at the given places, or where a mask is true, in that order."""
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if rows.all():
                return self  # Saves a copy of what may be half a gigabyte.
            rows = np.flatnonzero(rows)
        return type(self)(
            self.features[rows],
            *(getattr(self, label)[rows] for label in LABELS),
            names=None if self.names is None else tuple(self.names[row] for row in rows),
        )


def concatenate(sets: Sequence[FeatureSet]) -> FeatureSet:
    """All rows of several sets, one set after another; names only where all have them."""
    named = all(part.names is not None for part in sets)
    return FeatureSet(
        np.concatenate([part.features for part in sets]),
        *(np.concatenate([getattr(part, label) for part in sets]) for label in LABELS),
        names=tuple(name for part in sets for name in part.names) if named else None,
    )
