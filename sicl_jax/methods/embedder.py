"""From a method's state to features of any number of images: the one way for all who need them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sicl_jax import devices
from sicl_jax.errors import UsageError
from sicl_jax.models.extract import in_batches

_READS = {"rgb": (True, False), "silhouette": (False, True)}


class Embedder:
    """Features of host images, by one compiled program over batches of one size.

    Args:
        method: The method (`methods.base.Method`).
        stream: One of the method's streams.
        flip: Average the features of each image and its mirror image.
        batch_size: Images in a batch.

    Raises:
        UsageError: The method has no such stream.
    """

    def __init__(self, method, *, stream: str = "rgb", flip: bool = False, batch_size: int = 256):
        if stream not in method.streams:
            raise UsageError(
                f"stream {stream!r}: this model has {', '.join(method.streams)}; one that was "
                "trained without silhouettes has no other"
            )
        self.stream = stream
        self.reads_images, self.reads_masks = _READS.get(stream, (True, True))
        self.batch_size = batch_size
        self._flip = flip
        self._method = method
        self._apply = jax.jit(self._embed, out_shardings=devices.by_rows())

    def __call__(
        self,
        state,
        images: np.ndarray | None,
        masks: np.ndarray | None = None,
        *,
        on_batch: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Embeds images (and masks).

        Args:
            state: The run, or its weights alone.
            images: (N, H, W, 3) uint8; may be None if the stream does not read them.
            masks: (N, H, W) uint8 grey; may be None if the stream does not read them.
            on_batch: Told the number of images done, batch by batch.

        Returns:
            (N, D) float32, unit rows.
        """
        read = ((images, self.reads_images), (masks, self.reads_masks))
        arrays = [array for array, is_read in read if is_read]
        features = in_batches(
            lambda *batch: self._apply(state, *batch),
            *arrays,
            batch_size=self.batch_size,
            on_batch=on_batch,
        )
        return np.asarray(features, np.float32)

    def _embed(self, state, *batch: jax.Array) -> jax.Array:
        features = self._one_view(state, batch)
        if not self._flip:
            return features
        mirrored = self._one_view(state, [array[:, :, ::-1] for array in batch])
        mean = features + mirrored
        return mean / jnp.maximum(jnp.linalg.norm(mean, axis=1, keepdims=True), 1e-12)

    def _one_view(self, state, batch) -> jax.Array:
        images = batch[0] if self.reads_images else None
        masks = batch[-1] if self.reads_masks else None
        return self._method.embed(state, images, masks, self.stream)
