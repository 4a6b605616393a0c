"""Resizing pictures as PIL resizes them, to the last bit, in a fraction of its time.

PIL takes weighted means of whole numbers along one axis, rounds them to 8 bits, and does the same
along the other. Here both are means of whole rows, so that the inner loop becomes SIMD: for the
columns the picture is turned. Which axis comes first decides the last bits: it is as in Pillow 13,
whatever Pillow there is.
"""

import functools
import math

import cv2
import numpy as np
from jaxtyping import UInt8

from sicl_jax.native import compiled

FILTERS = {"bicubic": 2, "bilinear": 1, "lanczos": 3}
"""PIL's filters and their radii in pixels of the smaller picture."""

_BITS = 22  # Of a weight, behind its point.


def resized(
    pixels: UInt8[np.ndarray, "H W *C"], size: tuple[int, int], resize: str
) -> UInt8[np.ndarray, "h w *C"]:
    """Returns a picture in another size.

    Args:
        pixels: Grey or of several channels.
        size: Height and width, at least 1.
        resize: A key of `FILTERS`.
    """
    (old_height, old_width), (height, width) = pixels.shape[:2], size
    height_first = 0 < old_height - height > 2 * (old_width - width)
    if height_first:
        pixels = _along_height(pixels, height, resize)
    if width != old_width:
        turned = cv2.transpose(np.ascontiguousarray(pixels))
        pixels = cv2.transpose(_along_height(turned, width, resize))
    return pixels if height_first else _along_height(pixels, height, resize)


def _along_height(pixels, height, resize):
    if height == len(pixels):
        return pixels
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    factors = _factors(len(pixels), height, FILTERS[resize])
    return _means(rows, *factors).reshape(height, *pixels.shape[1:])


@compiled
def _means(rows, firsts, factors):
    """Sums of rows from `firsts` on, times factors: (N, M), (K,) and (K, 4 F) to (K, M)."""
    last, columns = len(rows) - 1, rows.shape[1]
    means = np.empty((len(firsts), columns), np.uint8)
    sums = np.empty(columns, np.int32)
    for place in range(len(firsts)):
        sums[:] = 1 << (_BITS - 1)
        for n in range(0, factors.shape[1], 4):  # By fours: the sums are loaded less often.
            e, f, g, h = factors[place, n : n + 4]
            if e == f == g == h == 0:
                continue
            first = firsts[place] + n
            a, b = rows[min(first, last)], rows[min(first + 1, last)]
            c, d = rows[min(first + 2, last)], rows[min(first + 3, last)]
            for column in range(columns):
                sums[column] += (
                    np.int32(a[column]) * e
                    + np.int32(b[column]) * f
                    + np.int32(c[column]) * g
                    + np.int32(d[column]) * h
                )
        row = means[place]
        for column in range(columns):
            row[column] = min(max(sums[column] >> _BITS, 0), 255)
    return means


@functools.lru_cache(maxsize=1024)
@compiled
def _factors(length, count, radius):
    """For each of `count` means of `length` rows the first row, and factors with zeros behind."""
    scale = length / count
    shrinks = max(scale, 1.0)
    most = 2 * math.ceil(radius * shrinks) + 1
    firsts = np.empty(count, np.int64)
    factors = np.zeros((count, -(-most // 4) * 4), np.int32)
    weights = np.empty(most)
    for place in range(count):
        centre = (place + 0.5) * scale
        first = firsts[place] = max(int(centre - radius * shrinks + 0.5), 0)
        number = min(int(centre + radius * shrinks + 0.5), length) - first
        total = 0.0
        for n in range(number):
            weights[n] = _weight((n + first - centre + 0.5) * (1.0 / shrinks), radius)
            total += weights[n]
        for n in range(number):
            share = weights[n] / total * (1 << _BITS)
            factors[place, n] = np.int32(share - 0.5 if share < 0 else share + 0.5)
    return firsts, factors


@compiled
def _weight(x, radius):
    x = abs(x)
    if x >= radius:
        return 0.0
    if radius == 1:
        return 1 - x
    if radius == 2:
        return (1.5 * x - 2.5) * x * x + 1 if x < 1 else (((x - 5) * x + 8) * x - 4) * -0.5
    return _sinc(x) * _sinc(x / 3)


@compiled
def _sinc(x):
    return math.sin(x * math.pi) / (x * math.pi) if x else 1.0
