"""What the training loop knows of a method."""

import dataclasses
from typing import Any, Protocol

import jax
import numpy as np

State = Any


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The training split as a method sees it.

    Attributes:
        images: (N, H, W, 3) uint8 RGB, on the host.
        masks: (N, H, W) uint8 grey silhouettes on the host, or None.
        cameras: (N,) int32.
    """

    images: np.ndarray
    masks: np.ndarray | None
    cameras: np.ndarray

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """One batch on the device, as stored: augmentation is the method's.

    Attributes:
        indexes: (B,) int32, which training images these are.
        images: (B, H, W, 3) uint8.
        masks: (B, H, W) uint8, or None.
    """

    indexes: jax.Array
    images: jax.Array
    masks: jax.Array | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WeightsOnly:
    """A state of which nothing but the weights was loaded: enough for `Method.embed`.

    Attributes:
        weights: The model's arrays, as in the method's own state.
    """

    weights: Any


class Method(Protocol):
    """A way to train. The state is a pytree of arrays and, with the config, the whole run.

    A state has a field `weights`, and that is all of it that `embed` reads.

    Attributes:
        uses_masks: Whether training needs masks.
        streams: What `embed` can give features of; the first is the one that a test uses.
        pseudo_labels: Where in the state the pseudo-labels are, (N or more,) int32, as names of
            nested fields; empty for a method that has none.
    """

    uses_masks: bool
    streams: tuple[str, ...]
    pseudo_labels: tuple[str, ...]

    def init(self, data: TrainingData, seed: int) -> State:
        """The state before the first epoch, placed on the devices."""

    def abstract_state(self, data: TrainingData) -> State:
        """The state's structure, types and shardings, for restoring one.

        Padded sizes may differ from epoch to epoch: a checkpoint's own shapes take precedence.
        """

    def begin_epoch(
        self, state: State, data: TrainingData, epoch: int
    ) -> tuple[State, dict[str, Any]]:
        """Host work before an epoch's steps (clustering, say), and numbers worth a line."""

    def draw_batches(self, state: State, data: TrainingData, epoch: int) -> np.ndarray:
        """(S, B) int32, the images of every step of this epoch; the same whenever asked."""

    def train_step(
        self, state: State, batch: Batch, key: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """One step, pure and traceable; scalars to log under their names."""

    def abstract_weights(self) -> Any:
        """Shapes and types of the state's `weights`."""

    def embed(
        self,
        state: State | WeightsOnly,
        images: jax.Array | None,
        masks: jax.Array | None = None,
        stream: str = "rgb",
    ) -> jax.Array:
        """Features (B, D) float32, unit rows, in evaluation mode; traceable.

        Args:
            state: The run, or its weights alone.
            images: (B, H, W, 3) uint8; may be None where the stream sees masks alone.
            masks: (B, H, W) uint8 grey; None where the stream sees images alone.
            stream: One of `streams`.
        """
