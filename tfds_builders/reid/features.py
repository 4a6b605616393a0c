"""The features of every re-identification data set here.

An example holds pictures as encoded files. `tfds.features.Image` encodes arrays through a
TensorFlow graph, so builders hand over encoded bytes (`encode_png` makes them from an array) and
need no TensorFlow.
"""

import io
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

UNKNOWN = -1
"""The value of an integer label that a data set does not give."""

VISIBLE, INFRARED = 0, 1
"""Values of the label `modality`."""

PICTURES = {
    "image": "The crop of a person, RGB.",
    "mask": "Silhouette or parts as a PNG of the image's size.",
    "face": "The person's face as cut out of the image.",
    "face_restored": "The same face in high resolution, restored by another program.",
}
"""Pictures of an example; all but the image may be absent: then 1 x 1 and black."""

LABELS = {
    "identity": "Person; -1 unknown.",
    "camera": "Camera; -1 unknown.",
    "clothes": "Outfit, unique over persons; -1 unknown.",
    "tracklet": "Video snippet; -1 unknown.",
    "modality": "0 visible light, 1 infrared; -1 unknown.",
}
"""Labels of an example, int32."""


def reid_features() -> tfds.features.FeaturesDict:
    """Returns the features of all data sets; see `make_example` for the meaning of each."""
    features: dict[str, Any] = {}
    for picture, doc in PICTURES.items():
        features[picture] = tfds.features.Image(shape=(None, None, 3), doc=doc)
        if picture != "image":
            features[f"has_{picture}"] = tfds.features.Scalar(
                np.bool_, doc=f"Whether `{picture}` is a real one."
            )
    for label, doc in LABELS.items():
        features[label] = tfds.features.Scalar(np.int32, doc=doc)
    features["file_name"] = tfds.features.Text(doc="Path below the raw folder, with slashes.")
    return tfds.features.FeaturesDict(features)


def encode_png(pixels: np.ndarray) -> bytes:
    """Encodes an array as PNG.

    Args:
        pixels: (H, W) or (H, W, 3) uint8, or (H, W) bool for a one-bit picture.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


ABSENT = encode_png(np.zeros((1, 1), np.uint8))
"""What stands in a picture's feature where there is none (`has_<picture>` is False)."""


def make_example(
    image: Any,
    mask: Any | None = None,
    *,
    file_name: str,
    face: Any | None = None,
    face_restored: Any | None = None,
    identity: int = UNKNOWN,
    camera: int = UNKNOWN,
    clothes: int = UNKNOWN,
    tracklet: int = UNKNOWN,
    modality: int = UNKNOWN,
) -> dict[str, Any]:
    """Returns one example as the builders yield it.

    Args:
        image: The encoded JPEG or PNG file as bytes, or an object whose `read()` returns them.
        mask: The same for the mask, always PNG: 0 is background; a binary, grey or palette picture.
            None if the image has no mask.
        file_name: Path below the raw folder, unique in the split.
        face: The person's face as seen in the image; None if it has none.
        face_restored: The restored face, or None.
        identity: Person, or -1.
        camera: Camera, or -1.
        clothes: Outfit, or -1. Two persons never share a number, so that equal numbers mean the
            same person in the same clothes.
        tracklet: Video snippet the image was taken from, or -1.
        modality: `VISIBLE` or `INFRARED`, or -1.
    """
    example = {"image": image}
    for picture, file in (("mask", mask), ("face", face), ("face_restored", face_restored)):
        example[picture] = ABSENT if file is None else file
        example[f"has_{picture}"] = file is not None
    return example | {
        "identity": identity,
        "camera": camera,
        "clothes": clothes,
        "tracklet": tracklet,
        "modality": modality,
        "file_name": file_name,
    }
