"""Resizing and pooling matrices against their definitions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sicl_jax.masks import resize

sizes = st.integers(1, 40)


@given(sizes, sizes)
def test_align_corners_keeps_corners_and_straight_lines(new_size, size):
    matrix = resize.align_corners_matrix(new_size, size)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    line = matrix @ np.arange(size)
    np.testing.assert_allclose(line, np.linspace(0, size - 1, new_size), atol=1e-12)
    assert (matrix != 0).sum(axis=1).max() <= 2


@given(st.integers(1, 8), sizes)
def test_adaptive_pool_averages_its_bins(bins, size):
    signal = np.random.default_rng(size).normal(size=size)
    for i, value in enumerate(resize.adaptive_pool_matrix(bins, size) @ signal):
        start, stop = int(np.floor(i * size / bins)), int(np.ceil((i + 1) * size / bins))
        np.testing.assert_allclose(value, signal[start:stop].mean(), atol=1e-12)


def test_sampling_fades_into_a_zero_border():
    matrix = resize.linear_sampling_matrix(np.array([-1.0, -0.25, 0.0, 1.5, 2.75, 4.0]), 3)
    np.testing.assert_allclose(matrix @ np.array([1.0, 2.0, 4.0]), [0, 0.75, 1, 3, 1, 0])


def test_both_axes_of_a_batch():
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    rows, columns = resize.align_corners_matrix(7, 5), resize.align_corners_matrix(3, 4)
    expected = np.einsum("Hh,bhwc,Ww->bHWc", rows, x, columns)
    np.testing.assert_allclose(resize.resize_align_corners(x, (7, 3)), expected, atol=1e-5)
    assert resize.resize_align_corners(x, (5, 4)) is x
    pooled = resize.adaptive_average_pool(x, 1)
    np.testing.assert_allclose(pooled[:, 0, 0], x.mean(axis=(1, 2)), atol=1e-6)
