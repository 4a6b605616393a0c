"""Linear maps of picture axes as small dense matrices, built in NumPy from static sizes.

Bilinear resizing, average pooling and the affine way back to an image are separable: a matrix for
the rows and one for the columns. As matrix products they run at full speed on every device.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def linear_sampling_matrix(positions: np.ndarray, size: int) -> np.ndarray:
    """Returns the matrix that reads a signal of `size` samples at real-valued positions.

    Linear between samples; zero outside, fading over the last half-open interval as a picture with
    a zero border does.

    Args:
        positions: (M,) float64, in samples; 0 is the first sample's centre.
        size: Number of samples N.

    Returns:
        (M, N) float64; each row has at most two non-zeros.
    """
    distance = np.abs(np.asarray(positions, np.float64)[:, None] - np.arange(size))
    return np.maximum(0.0, 1.0 - distance)


def align_corners_matrix(new_size: int, size: int) -> np.ndarray:
    """Returns (new_size, size) float64: bilinear resizing of one axis with the corners aligned."""
    last = (size - 1) * np.arange(new_size) / max(new_size - 1, 1)
    return linear_sampling_matrix(last, size)


def adaptive_pool_matrix(bins: int, size: int) -> np.ndarray:
    """Returns (bins, size) float64: bin i averages samples floor(i N / b) : ceil((i + 1) N / b)."""
    matrix = np.zeros((bins, size))
    for i in range(bins):
        start, stop = (i * size) // bins, -(-((i + 1) * size) // bins)
        matrix[i, start:stop] = 1.0 / (stop - start)
    return matrix


def apply_rows_and_columns(
    x: Float[Array, "b h w c"], rows: np.ndarray, columns: np.ndarray
) -> Float[Array, "b h2 w2 c"]:
    """Multiplies the picture's axes by `rows` (h2, h) and `columns` (w2, w), in `x`'s type."""
    rows, columns = jnp.asarray(rows, x.dtype), jnp.asarray(columns, x.dtype)
    precision = jax.lax.Precision.HIGHEST
    x = jnp.einsum("Hh,bhwc->bHwc", rows, x, precision=precision)
    return jnp.einsum("Ww,bhwc->bhWc", columns, x, precision=precision)


def resize_align_corners(
    x: Float[Array, "b h w c"], size: tuple[int, int]
) -> Float[Array, "b h2 w2 c"]:
    """Resizes bilinearly with the corners aligned to `size` (height, width)."""
    height, width = x.shape[1:3]
    if (height, width) == size:
        return x
    return apply_rows_and_columns(
        x, align_corners_matrix(size[0], height), align_corners_matrix(size[1], width)
    )


def adaptive_average_pool(x: Float[Array, "b h w c"], bins: int) -> Float[Array, "b k k c"]:
    """Pools by averages to `bins` x `bins`, whatever the size."""
    return apply_rows_and_columns(
        x, adaptive_pool_matrix(bins, x.shape[1]), adaptive_pool_matrix(bins, x.shape[2])
    )
