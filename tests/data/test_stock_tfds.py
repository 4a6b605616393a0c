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

# Runs `tfds build` in each folder, then loads with TensorFlow, decoded and as stored, and tells
# what it has got. One process for all: TensorFlow takes long to begin.
_BUILD_AND_LOAD = """
import json, os, sys
from absl import app
import tensorflow_datasets as tfds
from tensorflow_datasets.scripts.cli import main as cli
labels = ("identity", "camera", "clothes", "tracklet", "modality")
pictures = ("image", "mask", "face", "face_restored")
raw = {key: tfds.decode.SkipDecoding() for key in pictures}

def load(name, data_dir):
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
    return told

for folder, data_dir, name, *options in json.loads(sys.argv[1]):
    os.chdir(folder)
    words = ["tfds", "build", f"--manual_dir={folder}/dummy_data", f"--data_dir={data_dir}"]
    try:
        app.run(cli.main, [*words, *options], flags_parser=cli._parse_flags)
    except SystemExit as ended:
        assert not ended.code, name
    json.dump(load(name, data_dir) if name else None, open(f"{data_dir}/told.json", "w"))
"""


@pytest.fixture(scope="module")
def tensorflow_python() -> str:
    if importlib.util.find_spec("tensorflow"):
        return sys.executable
    python = os.environ.get("SICL_JAX_TFDS_PYTHON")
    if not python:
        pytest.skip("TensorFlow is not installed, nor does SICL_JAX_TFDS_PYTHON name it")
    return python


@pytest.fixture(scope="module")
def built(tensorflow_python, tmp_path_factory) -> pathlib.Path:
    """A folder `NAME` for each builder, `array_record` and `tfrecord` for formats."""
    target, todo = tmp_path_factory.mktemp("stock"), []
    for name in raw_trees.WRITERS:
        full = raw_trees.CONFIGS.get(name, name)
        config = full.partition("/")[2]  # Without one all of them are built.
        options = [f"--config={config}"] if config else []
        todo.append([_BUILDERS / name, target / name, full, *options])
    for kind in ("array_record", "tfrecord"):
        todo.append([_BUILDERS / "prcc", target / kind, "", f"--file_format={kind}"])
    words = json.dumps([[str(word) for word in each] for each in todo])
    run(tensorflow_python, "-c", _BUILD_AND_LOAD, words)
    return target


def run(*command: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(_REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_stock_test_passes(tensorflow_python):
    run(tensorflow_python, str(pathlib.Path(__file__).with_name("stock_cases.py")))


@pytest.mark.parametrize("name", raw_trees.WRITERS)
def test_both_ways_give_the_same_examples(name, built, tmp_path):
    """`tfds build` in the builder's folder, its default format read by `tfds.load`."""
    dummy_data, stock = _BUILDERS / name / "dummy_data", built / name
    told = json.loads((stock / "told.json").read_text())
    name = raw_trees.CONFIGS.get(name, name)
    store = prepare(Request(name, tmp_path / "data", dummy_data)).store
    assert {split: len(examples) for split, examples in told.items()} == store.examples
    for split, examples in told.items():
        mine = {r["file_name"]: r for batch in store.records(split) for r in batch}
        assert len(mine) == len(examples)
        for example in examples:
            shapes = example.pop("shapes")
            assert shapes[0] == shapes[1]
            theirs = example | {
                key: None if file is None else bytes.fromhex(file)
                for key, file in example.pop("pictures").items()
            }
            assert record_digest(theirs) == record_digest(mine[example["file_name"]])
    noted = json.loads((stock / name / "1.0.0/metadata.json").read_text())
    assert noted["fingerprint"] == store.metadata["fingerprint"]


def test_array_record_built_by_tfds_is_loaded_here(built):
    from sicl_jax.data.dataset import load_dataset
    from sicl_jax.errors import UserError

    assert len(load_dataset("prcc", built / "array_record").split("train")) == 6
    with pytest.raises(UserError, match="holds tfrecord files"):
        load_dataset("prcc", built / "tfrecord")
