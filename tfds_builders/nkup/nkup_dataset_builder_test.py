"""The stock test of TFDS; it needs TensorFlow."""

import pytest

pytest.importorskip("tensorflow")

import tensorflow_datasets as tfds  # noqa: E402

from tfds_builders.nkup import nkup_dataset_builder  # noqa: E402


class NkupTest(tfds.testing.DatasetBuilderTestCase):
    """Prepares `dummy_data` and reads it again."""

    DATASET_CLASS = nkup_dataset_builder.Builder
    SPLITS = {
        "train": 6,
        "query": 3,
        "gallery": 3,
    }


if __name__ == "__main__":
    tfds.testing.test_main()
