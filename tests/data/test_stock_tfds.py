"""The stock `tfds build` and `tfds.load` give the examples that `sicl-jax prepare` gives.

This needs TensorFlow, which nothing else here does. Where it is not installed beside this
package, `SICL_JAX_TFDS_PYTHON` may name a Python that has it:

    python -m venv tf && tf/bin/pip install ".[tfds]"
    SICL_JAX_TFDS_PYTHON=tf/bin/python pytest tests/data/test_stock_tfds.py
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest
import raw_trees

from sicl_jax.data.prepare import Request, prepare
from sicl_jax.data.store import record_digest

_REPOSITORY = pathlib.Path(__file__).parents[2]
_BUILDERS = _REPOSITORY / "tfds_builders"

# Loads with TensorFlow, once decoded and once as stored, and tells what it has got.
_LOAD = """
import hashlib, json, sys
import tensorflow_datasets as tfds
name, data_dir = sys.argv[1:]
labels = ("identity", "camera", "clothes", "tracklet", "modality")
pictures = ("image", "mask", "face", "face_restored")
raw = {key: tfds.decode.SkipDecoding() for key in pictures}
told = {}
for split in tfds.builder(name, data_dir=data_dir).info.splits:
    stored = tfds.as_numpy(tfds.load(name, data_dir=data_dir, split=split, decoders=raw))
    decoded = tfds.as_numpy(tfds.load(name, data_dir=data_dir, split=split))
    told[split] = [
        {
            "pictures": {
                key: example[key].hex() if example.get("has_" + key, True) else None
                for key in pictures
            },
            "file_name": example["file_name"].decode(),
            "shapes": [list(pixels["image"].shape), list(pixels["mask"].shape)],
        }
        | {key: int(example[key]) for key in labels}
        for example, pixels in zip(stored, decoded, strict=True)
    ]
json.dump(told, sys.stdout)
"""


@pytest.fixture(scope="module")
def tensorflow_python() -> str:
    if importlib.util.find_spec("tensorflow"):
        return sys.executable
    python = os.environ.get("SICL_JAX_TFDS_PYTHON")
    if not python:
        pytest.skip("TensorFlow is not installed, nor does SICL_JAX_TFDS_PYTHON name it")
    return python


def run(python, *arguments, cwd=None):
    environment = os.environ | {"PYTHONPATH": str(_REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [python, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", raw_trees.WRITERS)
def test_both_ways_give_the_same_examples(name, tensorflow_python, tmp_path):
    """`tfds build` in the builder's folder, its default format read by `tfds.load`."""
    folder = _BUILDERS / name
    dummy_data = folder / "dummy_data"
    name = raw_trees.CONFIGS.get(name, name)
    main = "tensorflow_datasets.scripts.cli.main"
    options = [f"--manual_dir={dummy_data}", f"--data_dir={tmp_path / 'stock'}"]
    if config := name.partition("/")[2]:  # Else all of them are built.
        options.append(f"--config={config}")
    run(tensorflow_python, "-m", main, "build", *options, cwd=folder)
    told = json.loads(run(tensorflow_python, "-c", _LOAD, name, tmp_path / "stock"))

    store = prepare(Request(name, tmp_path / "data", dummy_data)).store
    assert {split: len(examples) for split, examples in told.items()} == store.examples
    for split, examples in told.items():
        mine = {r["file_name"]: r for batch in store.records(split) for r in batch}
        assert len(mine) == len(examples)
        for example in examples:
            shapes = example.pop("shapes")
            assert shapes[0] == shapes[1]
            stock = example | {
                key: None if file is None else bytes.fromhex(file)
                for key, file in example.pop("pictures").items()
            }
            assert record_digest(stock) == record_digest(mine[example["file_name"]])
    noted = json.loads((tmp_path / f"stock/{name}/1.0.0/metadata.json").read_text())
    assert noted["fingerprint"] == store.metadata["fingerprint"]


def test_array_record_built_by_tfds_is_loaded_here(tensorflow_python, tmp_path):
    from sicl_jax.data.dataset import load_dataset
    from sicl_jax.errors import UserError

    dummy_data = _BUILDERS / "prcc/dummy_data"
    main = "tensorflow_datasets.scripts.cli.main"
    for file_format in ("tfrecord", "array_record"):
        options = [
            f"--manual_dir={dummy_data}",
            f"--data_dir={tmp_path / file_format}",
            f"--file_format={file_format}",
        ]
        run(tensorflow_python, "-m", main, "build", *options, cwd=_BUILDERS / "prcc")
    assert len(load_dataset("prcc", tmp_path / "array_record").split("train")) == 6
    with pytest.raises(UserError, match="holds tfrecord files"):
        load_dataset("prcc", tmp_path / "tfrecord")
