"""Image files read by whatever is fastest, against PIL alone."""

import io
import itertools

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from tfds_builders.reid import images

FACTORS = [value for name, value in vars(cv2).items() if "JPEG_SAMPLING_FACTOR_" in name]


def crop(height, width, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def jpegs():
    """JPEG files of all kinds, as PIL and as OpenCV write them."""
    sizes = ((4, 4), (17, 9), (64, 31), (133, 66))
    for (height, width), quality in itertools.product(sizes, (30, 95)):
        image = crop(height, width)
        for mode, more in (
            ("RGB", {}), ("RGB", {"progressive": True}), ("RGB", {"keep_rgb": True}),
            ("RGB", {"restart_marker_blocks": 2}), ("RGB", {"comment": b"x" * 300}),
            ("L", {}), ("L", {"progressive": True}), ("CMYK", {}),
        ):  # fmt: skip
            file = io.BytesIO()
            image.convert(mode).save(file, "JPEG", quality=quality, **more)
            yield (mode, more), file.getvalue()
        for factor in FACTORS:
            for progressive in (0, 1):
                how = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
                how += [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
                yield (
                    (factor, progressive),
                    cv2.imencode(".jpg", np.asarray(image), how)[1].tobytes(),
                )


def test_pixels_are_pils():
    assert len(FACTORS) >= 5
    for kind, data in jpegs():
        wanted = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(images.open_image(data), wanted, str(kind))
        assert images.check_image(data).size == wanted.shape[1::-1]


@pytest.mark.parametrize("orientation", range(10))
def test_a_jpeg_is_turned_as_it_says(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    crop(20, 9).save(file, "JPEG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    found = images.open_image(file.getvalue())
    np.testing.assert_array_equal(found, np.asarray(upright))
    assert images.check_image(file.getvalue()).size == upright.size


def test_what_is_cut_is_refused():
    file = io.BytesIO()
    crop(64, 31).save(file, "JPEG")
    data = file.getvalue()
    for length in range(0, len(data) - 2, 7):
        with pytest.raises(images.BadFileError):
            images.open_image(data[:length])
