"""Examples are serialised as TFDS serialises them."""

import io

import numpy as np
import pytest
from tensorflow_datasets.core import example_serializer
from tensorflow_datasets.proto import tf_example_pb2

from tfds_builders.reid.features import encode_png, make_example, reid_features
from tfds_builders.reid.write import serialized


@pytest.mark.parametrize("mask", [None, encode_png(np.eye(8, dtype=bool))])
def test_as_tfds_serialises_it(mask):
    image = encode_png(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    labels = {"identity": 7, "camera": -1, "clothes": 2**31 - 1, "tracklet": 0}
    example = make_example(image, mask, file_name="größe/1.png", **labels)
    features = reid_features()
    stock = example_serializer.ExampleSerializer(features.get_serialized_info())
    files = {key: io.BytesIO(example[key]) for key in ("image", "mask")}
    expected = stock.serialize_example(features.encode_example(example | files))
    parse = tf_example_pb2.Example.FromString
    assert parse(serialized(example)) == parse(expected)
    read = features.deserialize_example_np(serialized(example))
    assert {key: read[key] for key in labels} == labels
    assert read["file_name"].decode() == "größe/1.png"
    assert read["has_mask"] == (mask is not None)
    np.testing.assert_array_equal(read["image"].ravel(), np.arange(192))
