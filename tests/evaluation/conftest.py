"""The golden evaluation file's queries and gallery."""

import numpy as np
import pytest

from sicl_jax.evaluation import UNKNOWN, FeatureSet


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
    identities = arrays[f"{side}_ids"]
    return FeatureSet(
        arrays[f"{side}_features"],
        identities,
        arrays[f"{side}_cameras"],
        arrays[f"{side}_clothes"],
        np.full_like(identities, UNKNOWN),
    )
