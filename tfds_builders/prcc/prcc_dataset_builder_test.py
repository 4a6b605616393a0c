"""The stock test of TFDS; it needs TensorFlow."""

import pytest

pytest.importorskip("tensorflow")

import tensorflow_datasets as tfds  # noqa: E402

from tfds_builders.prcc import prcc_dataset_builder  # noqa: E402


class PrccTest(tfds.testing.DatasetBuilderTestCase):
    """Prepares `dummy_data` and reads it again."""

    DATASET_CLASS = prcc_dataset_builder.Builder
    SPLITS = {
        "train": 6,
        "val": 3,
        "query_same": 2,
        "query_changed": 2,
        "gallery": 2,
    }


if __name__ == "__main__":
    tfds.testing.test_main()
