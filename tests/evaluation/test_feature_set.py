"""What a feature set accepts, and how it is cut."""

import numpy as np
import pytest

from sicl_jax.errors import UserError
from sicl_jax.evaluation import FeatureSet


def make(names=("a.jpg", "b.jpg", "c.jpg"), features=None, similarity="euclidean", **changed):
    labels = {
        "identity": [0, 1, 1],
        "camera": np.array([1, 2, 3], np.int64),
        "clothes": np.array([0, 0, -1], np.int16),
    }
    if features is None:
        features = np.arange(6.0).reshape(3, 2)
    return FeatureSet(features, labels | changed, names, similarity)


def test_types():
    images = make()
    assert len(images) == 3
    assert images.features.dtype == np.float32
    assert {labels.dtype for labels in images.labels.values()} == {np.dtype(np.int32)}
    assert images.names == ("a.jpg", "b.jpg", "c.jpg")


def test_labels_that_are_not_given_are_unknown():
    images = make(weather=[2, 0, 1])
    assert images.labels["tracklet"].tolist() == images.label("mood").tolist() == [-1, -1, -1]
    assert images.label("weather").tolist() == [2, 0, 1]
    assert images.take(np.array([1])).label("weather").tolist() == [0]


def test_features_are_not_copied():
    features = np.zeros((3, 2), np.float32)
    images = make(features=features)
    assert np.shares_memory(images.features, features)
    assert images.take(np.array([True, True, True])) is images


def test_take():
    some = make().take(np.array([2, 0]))
    assert some.features.tolist() == [[4, 5], [0, 1]]
    assert some.labels["camera"].tolist() == [3, 1]
    assert some.labels["clothes"].tolist() == [-1, 0]
    assert some.names == ("c.jpg", "a.jpg")
    assert make().take(np.array([False, True, False])).names == ("b.jpg",)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"features": np.zeros(3)}, r"shape \(3,\); give one row per image"),
        ({"identity": [0, 1]}, r"label identity has shape \(2,\); the features ask for \(3,\)"),
        ({"camera": [0.5, 1.0, 2.0]}, "label camera is of type float64"),
        ({"clothes": [0, 1, -2]}, "label clothes reaches from -2 to 1"),
        ({"tracklet": [0, 1, 2**31]}, "label tracklet reaches from 0 to 2147483648"),
        ({"similarity": "cosine"}, "similarity 'cosine': give euclidean or dot"),
        ({"names": ["a.jpg"]}, "1 names for 3 rows"),
        ({"features": [[0, 0], [np.nan, 0], [0, 0]]}, r"row 1 \(b.jpg\) are NaN"),
        ({"features": [[0, 0], [0, 0], [np.inf, 0]]}, r"row 2 \(c.jpg\)"),
        ({"features": [[1e30, 0], [0, 0], [0, 0]], "names": None}, "row 0 are NaN, infinite or"),
    ],
)
def test_what_does_not_fit(changed, words):
    with pytest.raises(UserError, match=words) as caught:
        make(**changed)
    assert "\n" not in str(caught.value)
