"""From a method's weights to features of any number of images: the one way for all."""

import collections
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sicl_jax import devices
from sicl_jax.data.dataset import Split
from sicl_jax.errors import UsageError
from sicl_jax.methods.base import Method
from sicl_jax.methods.state import Batch, Weights

_IN_FLIGHT = 4


class Embedder:
    """Features of host images, by one compiled program over batches of one size.

    Args:
        method: The method.
        stream: One of the method's streams; the one that is tested if None.
        flip: Whether features are summed over each image and its mirror image; the config says so
            if None.
        batch_size: Images in a batch; rounded up to a multiple of the number of devices.

    Attributes:
        stream: The stream.
        reads: The columns that it reads.
        flip: Whether mirrored views are added.
        similarity: How features are compared (`Method.similarity`).

    Raises:
        UsageError: The method has no such stream.
    """

    def __init__(
        self,
        method: Method,
        *,
        stream: str | None = None,
        flip: bool | None = None,
        batch_size: int = 256,
    ):
        stream = next(iter(method.streams)) if stream is None else stream
        if stream not in method.streams:
            raise UsageError(f"stream {stream!r}: this model has {', '.join(method.streams)}")
        self.stream = stream
        self.reads = tuple(method.streams[stream])
        self.similarity = method.similarity
        self.batch_size = devices.padded_rows(batch_size)
        self.flip = bool(method.config.evaluate.flip if flip is None else flip)
        self._apply = _compiled(method, stream, self.flip)

    def __call__(
        self,
        weights: Weights,
        columns: Mapping[str, np.ndarray],
        *,
        on_batch: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Embeds images.

        Args:
            weights: The model's, on the devices.
            columns: What `reads` names, each (N, ...), on the host.
            on_batch: Told the number of images done, batch by batch.

        Returns:
            (N, D) float32, normalised as the method compares them.
        """
        arrays = [columns[name] for name in self.reads]
        batches = (
            [np.asarray(array[start : start + self.batch_size]) for array in arrays]
            for start in range(0, len(arrays[0]), self.batch_size)
        )
        return np.concatenate(list(self.of_batches(weights, batches, on_batch=on_batch)))

    def of_batches(
        self,
        weights: Weights,
        batches: Iterable[Sequence[np.ndarray]],
        *,
        on_batch: Callable[[int], None] | None = None,
    ) -> Iterator[np.ndarray]:
        """Embeds batches as they come, some of them in flight while the next ones are made.

        A batch that is not full is filled up with its own last row, to the size of those before
        it; the first one to a power of two: few sizes are few programs.

        Args:
            weights: As above.
            batches: Columns in the order of `reads`, each (B, ...) of at most `batch_size` rows.
            on_batch: As above.

        Yields:
            (B, D) float32 for each batch.
        """
        pending: collections.deque[tuple[jax.Array, int]] = collections.deque()
        size = 0

        def collected() -> np.ndarray:
            features, count = pending.popleft()
            features = np.asarray(devices.fetch(features)[:count], np.float32)
            if on_batch is not None:
                on_batch(count)
            return features

        for batch in batches:
            count = len(batch[0])
            few = devices.padded_rows(1 << (count - 1).bit_length())
            size = max(size, min(self.batch_size, few))
            columns = {
                name: devices.put(_filled(column, size), devices.by_rows())
                for name, column in zip(self.reads, batch, strict=True)
            }
            pending.append((self._apply(weights, columns), count))
            if len(pending) > _IN_FLIGHT:
                yield collected()
        while pending:
            yield collected()


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    fill = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], fill, axis=0)]) if fill else rows


@functools.lru_cache(maxsize=16)
def _compiled(method: Method, stream: str, flip: bool) -> Callable[..., jax.Array]:
    return jax.jit(features_of(method, stream, flip), out_shardings=devices.by_rows())


def features_of(method: Method, stream: str, flip: bool) -> Callable[..., jax.Array]:
    """The function of the weights and a batch of each column that the stream reads."""

    def embed(weights: Weights, columns: dict[str, jax.Array]) -> jax.Array:
        model = method.model(weights)
        features = method.embed(model, batch_of(columns), stream)
        if flip:
            mirrored = {n: c[:, :, ::-1] if c.ndim > 1 else c for n, c in columns.items()}
            features = features + method.embed(model, batch_of(mirrored), stream)
        return method.normalize(features, stream)

    return embed


def columns_of(split: Split, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Columns of a split by name, pixels and labels alike, each (N, ...)."""
    return {name: (split.labels if name in split.labels else split.pixels)[name] for name in names}


def batch_of(
    columns: Mapping[str, jax.Array], indexes: jax.Array | None = None, *, stacked: bool = False
) -> Batch:
    """Columns as a batch: those of one axis are labels, the others pixels.

    Args:
        columns: Each (B, ...), or (S, B, ...) for a stack of batches.
        indexes: (B,) or (S, B) int32; rows are counted from 0 if None.
        stacked: Whether it is a stack.
    """
    axes = 2 if stacked else 1
    if indexes is None:
        indexes = jnp.arange(next(iter(columns.values())).shape[0], dtype=jnp.int32)
    return Batch(
        indexes,
        {name: column for name, column in columns.items() if column.ndim > axes},
        {name: column for name, column in columns.items() if column.ndim == axes},
    )
