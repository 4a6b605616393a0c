"""The one set of features of every re-identification data set here.

An example holds the image and the mask as encoded files. `tfds.features.Image` encodes arrays
through a TensorFlow graph, so builders hand over encoded bytes (`encode_png` makes them from an
array) and need no TensorFlow.
"""

import io
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

UNKNOWN = -1
"""The value of an integer label that a data set does not give."""


def reid_features() -> tfds.features.FeaturesDict:
    """Features shared by all data sets; see `make_example` for the meaning of each."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), doc="The crop of a person, RGB."),
            "mask": tfds.features.Image(
                shape=(None, None, 3),
                doc="Silhouette or parts as a PNG of the image's size; 1 x 1 and black if absent.",
            ),
            "has_mask": tfds.features.Scalar(np.bool_, doc="Whether `mask` is a real one."),
            "identity": tfds.features.Scalar(np.int32, doc="Person; -1 unknown."),
            "camera": tfds.features.Scalar(np.int32, doc="Camera; -1 unknown."),
            "clothes": tfds.features.Scalar(np.int32, doc="Outfit, unique over persons; -1."),
            "tracklet": tfds.features.Scalar(np.int32, doc="Video snippet; -1 unknown."),
            "file_name": tfds.features.Text(doc="Path below the raw folder, with slashes."),
        }
    )


def encode_png(pixels: np.ndarray) -> bytes:
    """Encodes an array as PNG.

    Args:
        pixels: (H, W) or (H, W, 3) uint8, or (H, W) bool for a one-bit picture.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


ABSENT_MASK = encode_png(np.zeros((1, 1), np.uint8))
"""What stands in the `mask` feature of an example without one (`has_mask` is False)."""


def make_example(
    image: Any,
    mask: Any | None,
    *,
    file_name: str,
    identity: int = UNKNOWN,
    camera: int = UNKNOWN,
    clothes: int = UNKNOWN,
    tracklet: int = UNKNOWN,
) -> dict[str, Any]:
    """One example as the builders yield it.

    Args:
        image: the encoded JPEG or PNG file as bytes, or an object whose `read()` returns them.
        mask: the same for the mask, always PNG: 0 is background; a binary, grey or palette
            picture. None if the image has no mask.
        file_name: path below the raw folder, unique in the split.
        identity: person, or -1.
        camera: camera, or -1.
        clothes: outfit, or -1. Two persons never share a number, so that equal numbers mean
            the same person in the same clothes.
        tracklet: video snippet the image was taken from, or -1.
    """
    return {
        "image": image,
        "mask": ABSENT_MASK if mask is None else mask,
        "has_mask": mask is not None,
        "identity": identity,
        "camera": camera,
        "clothes": clothes,
        "tracklet": tracklet,
        "file_name": file_name,
    }
