"""The way to the network's input and back, against golden numbers and OpenCV's own warp."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sicl_jax.masks import extractor
from sicl_jax.masks.resize import align_corners_matrix, linear_sampling_matrix


def test_golden_network_input(golden):
    archive = golden("schp")
    warped = extractor.network_input(archive["image_bgr"], 512)
    result = np.asarray(extractor.normalize(warped[None]))[0, ::16, ::16]
    np.testing.assert_allclose(result, archive["network_input_sample"], rtol=1e-4, atol=1e-5)


@given(st.integers(2, 300), st.integers(2, 300), st.sampled_from([65, 473, 512]))
def test_the_long_side_fills_the_input_and_the_centre_is_kept(height, width, size):
    scale, offset_x, offset_y = extractor.InputMap.of(height, width, size)
    middle = (size - 1) / 2
    assert scale * (width - 1) / 2 + offset_x == pytest.approx(middle)
    assert scale * (height - 1) / 2 + offset_y == pytest.approx(middle)
    assert scale * (max(height, width) - 1) == pytest.approx(size - 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(33, 80))
def test_network_input_is_bilinear_and_black_outside(height, width, size):
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    scale, offset_x, offset_y = extractor.InputMap.of(height, width, size)
    rows = linear_sampling_matrix((np.arange(size) - offset_y) / scale, height)
    columns = linear_sampling_matrix((np.arange(size) - offset_x) / scale, width)
    expected = np.einsum("Hh,hwc,Ww->HWc", rows, image.astype(float), columns)
    assert np.abs(extractor.network_input(image, size) - expected).max() < 1  # Rounded to bytes.


def _as_opencv_does(logits, height, width, input_size):
    """The published way: resize to the input's size, then warp channel by channel."""
    resize = align_corners_matrix(input_size, logits.shape[0])
    large = np.einsum("Hh,hwk,Ww->HWk", resize, logits, resize, optimize=True).astype(np.float32)
    scale, offset_x, offset_y = extractor.InputMap.of(height, width, input_size)
    back = np.array([[1 / scale, 0, -offset_x / scale], [0, 1 / scale, -offset_y / scale]])
    channels = [
        cv2.warpAffine(np.ascontiguousarray(large[..., k]), back, (width, height))
        for k in range(large.shape[-1])
    ]
    return np.stack(channels, axis=-1)


@pytest.mark.parametrize(
    ("height", "width", "logits_size", "input_size"),
    [(128, 64, 64, 256), (90, 43, 119, 473), (41, 77, 17, 65), (300, 111, 33, 129)],
)
def test_way_back_agrees_with_opencv(height, width, logits_size, input_size):
    random = np.random.default_rng(height)
    logits = random.normal(size=(logits_size, logits_size, 7)).astype(np.float32)
    expected = _as_opencv_does(logits, height, width, input_size)
    rows, columns = extractor.way_back(height, width, logits_size, input_size)
    result = np.einsum("hi,ijk,wj->hwk", rows, logits, columns, optimize=True)
    np.testing.assert_allclose(result, expected, atol=1e-3)

    def padded(matrix):
        return np.pad(matrix, ((0, extractor.padded_size(len(matrix)) - len(matrix)), (0, 0)))[None]

    classes = extractor.classes_at_image_size(logits[None], padded(rows), padded(columns))
    classes = np.asarray(classes)[0, :height, :width]
    top_two = np.sort(expected, axis=-1)[..., -2:]
    clear = top_two[..., 1] - top_two[..., 0] > 2e-3  # Elsewhere rounding decides.
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(classes[clear], expected.argmax(axis=-1)[clear])


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(9, 40))
def test_way_back_keeps_constants(height, width, logits_size):
    for matrix in extractor.way_back(height, width, logits_size, 4 * logits_size - 3):
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)


def test_padded_sizes_are_few_and_large_enough():
    sizes = [extractor.padded_size(size) for size in range(1, 1025)]
    assert set(sizes) == {64, 128, 256, 512, 1024}
    assert all(size <= padded for size, padded in enumerate(sizes, 1))
