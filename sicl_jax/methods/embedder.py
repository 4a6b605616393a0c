"""From a method's state to features of any number of images: the one way for all who need them."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sicl_jax import devices
from sicl_jax.errors import UsageError
from sicl_jax.methods.base import WeightsOnly
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
        self._apply = _compiled(method, stream, flip)

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
        weights = WeightsOnly(state.weights)  # The rest changes shape from epoch to epoch.
        features = in_batches(
            lambda *batch: self._apply(weights, *batch),
            *arrays,
            batch_size=self.batch_size,
            on_batch=on_batch,
        )
        return np.asarray(features, np.float32)


@functools.lru_cache(maxsize=16)
def _compiled(method, stream: str, flip: bool) -> Callable[..., jax.Array]:
    """The jitted function of the weights and a batch of each array that the stream reads."""
    reads_images, reads_masks = _READS.get(stream, (True, True))

    def one_view(weights: WeightsOnly, batch: Sequence[jax.Array]) -> jax.Array:
        images = batch[0] if reads_images else None
        masks = batch[-1] if reads_masks else None
        return method.embed(weights, images, masks, stream)

    def embed(weights: WeightsOnly, *batch: jax.Array) -> jax.Array:
        features = one_view(weights, batch)
        if not flip:
            return features
        mean = features + one_view(weights, [array[:, :, ::-1] for array in batch])
        return mean / jnp.maximum(jnp.linalg.norm(mean, axis=1, keepdims=True), 1e-12)

    return jax.jit(embed, out_shardings=devices.by_rows())
