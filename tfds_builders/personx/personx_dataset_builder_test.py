"""The stock test of TFDS; it needs TensorFlow."""

import pytest

pytest.importorskip("tensorflow")

import tensorflow_datasets as tfds  # noqa: E402

from tfds_builders.personx import personx_dataset_builder  # noqa: E402


class PersonxTest(tfds.testing.DatasetBuilderTestCase):
    """Prepares `dummy_data` and reads it again."""

    DATASET_CLASS = personx_dataset_builder.Builder
    SPLITS = {
        "train": 6,
        "query": 3,
        "gallery": 3,
    }


if __name__ == "__main__":
    tfds.testing.test_main()
