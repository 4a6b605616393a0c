"""The golden evaluation file's queries and gallery."""

import pytest

from sicl_jax.evaluation import FeatureSet


@pytest.fixture(scope="session")
def arrays(golden):
    return golden("evaluation")


@pytest.fixture(scope="session")
def query(arrays) -> FeatureSet:
    return _feature_set(arrays, "query")


@pytest.fixture(scope="session")
def gallery(arrays) -> FeatureSet:
    return _feature_set(arrays, "gallery")


def _feature_set(arrays, side):
    names = {"identity": "ids", "camera": "cameras", "clothes": "clothes"}
    labels = {label: arrays[f"{side}_{name}"] for label, name in names.items()}
    return FeatureSet(arrays[f"{side}_features"], labels)
