"""TFDS's own test of every builder package, on its `dummy_data`; it needs TensorFlow.

python tests/data/stock_cases.py
"""

import importlib

import raw_trees

_THREE = {"train": 6, "query": 3, "gallery": 3}
SPLITS = {
    **dict.fromkeys(raw_trees.WRITERS, _THREE),
    "ccvid": {"train": 6, "query": 2, "gallery": 4},
    "deepchange": _THREE | {"val_query": 3, "val_gallery": 3},
    "last": _THREE | {"val_query": 3, "val_gallery": 3},
    "market1501": {"train": 6, "query": 3, "gallery": 4},
    "prcc": {"train": 6, "val": 3, "query_same": 2, "query_changed": 2, "gallery": 2},
    "real28": {"query": 3, "gallery": 3},
    "sysu_mm01": {"train": 6, "query": 2, "gallery": 4},
}
"""Images by split of the `dummy_data` of each package."""


def main() -> None:
    """Makes a test case for each package and runs them all."""
    import tensorflow_datasets as tfds

    for name, splits in SPLITS.items():
        module = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder")
        config = raw_trees.CONFIGS.get(name, "").partition("/")[2]
        attributes = {
            "DATASET_CLASS": module.Builder,
            "BUILDER_CONFIG_NAMES_TO_TEST": [config] if config else None,
            "SPLITS": splits,
        }
        globals()[name] = type(name, (tfds.testing.DatasetBuilderTestCase,), attributes)
    tfds.testing.test_main()


if __name__ == "__main__":
    main()
