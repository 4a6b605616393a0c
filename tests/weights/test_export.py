"""`sicl-jax export`: every format is read back and computes what the model computes."""

import json

import click.testing
import controls
import jax
import numpy as np
import pytest
import safetensors
from flax import nnx

from sicl_jax import devices, inference
from sicl_jax.cli.export import command
from sicl_jax.errors import UserError
from sicl_jax.methods.sicl import weights as released_weights
from sicl_jax.methods.sicl.model import Encoder
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.weights import torch_names
from sicl_jax.weights.torch_files import load_state_dict, save_state_dict

CONFIG = ResNetConfig("bottleneck", (1, 1), width=4)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A checkpoint with lively weights."""
    rng = np.random.default_rng(0)
    encoder = nnx.eval_shape(lambda: Encoder(CONFIG))
    for name, variable in released_weights.names(encoder).items():
        draw = (
            rng.uniform(0.5, 1.5, variable.shape)
            if "var" in name
            else rng.normal(size=variable.shape)
        )
        variable.set_value(jax.numpy.asarray(draw, jax.numpy.float32))
    path = tmp_path_factory.mktemp("source") / "trained.pth"
    save_state_dict(path, torch_names.checkpoint(released_weights.names(encoder), prefix="module."))
    return path


@pytest.fixture(scope="module")
def model(source):
    return inference.load(source)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (3, 256, 128, 3), np.uint8)


@pytest.fixture(scope="module")
def features(model, images):
    return model.embed(images)


@pytest.fixture(scope="module")
def rounding(model, images):
    """What features may differ by where two programs compute them."""
    return controls.tolerance(
        lambda weights: model.embedder()(devices.put_replicated(weights), {"image": images}),
        model.weights,
    )


def export(source, format_, output, *more):
    arguments = ["--workdir", str(source), "--format", format_, "--output", str(output), *more]
    result = click.testing.CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize(("format_", "suffix"), [("torch", "pth"), ("safetensors", "safetensors")])
def test_weights_come_back_with_equal_bits(source, tmp_path, format_, suffix, images, features):
    path = tmp_path / f"rgb.{suffix}"
    export(source, format_, path)
    original = load_state_dict(source, strip_prefix="module.")
    back = load_state_dict(path, strip_prefix="module.")
    assert back.keys() == original.keys()
    for name, array in original.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)
    np.testing.assert_array_equal(inference.load(path).embed(images), features)


def test_the_torch_format_is_the_authors(source, tmp_path):
    """An untrained file exported is the file again, to the byte."""
    export(source, "torch", tmp_path / "rgb.pth")
    assert (tmp_path / "rgb.pth").read_bytes() == source.read_bytes()


def test_safetensors_tell_where_they_come_from(source, model, tmp_path):
    export(source, "safetensors", tmp_path / "w.safetensors")
    with safetensors.safe_open(tmp_path / "w.safetensors", "np") as file:
        about = json.loads(file.metadata()["sicl_jax"])
    assert about["model"] == model.fingerprint


def test_stablehlo_takes_batches_of_any_size(source, tmp_path, images, features, rounding):
    export(source, "stablehlo", tmp_path / "rgb.stablehlo")
    program = jax.export.deserialize(bytearray((tmp_path / "rgb.stablehlo").read_bytes()))
    assert set(program.platforms) >= {"cpu", "cuda", "tpu"}
    for count in (1, 3):
        found = np.asarray(program.call(images[:count]))
        np.testing.assert_allclose(found, features[:count], atol=rounding)


def test_onnx_takes_batches_of_any_size(source, tmp_path, images, features, rounding):
    pytest.importorskip("jax2onnx", reason="jax2onnx is not installed (extra `onnx`)")
    import onnxruntime

    export(source, "onnx", tmp_path / "rgb.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "rgb.onnx", providers=["CPUExecutionProvider"]
    )
    for count in (1, 3):
        (found,) = session.run(["features"], {"images": images[:count]})
        np.testing.assert_allclose(found, features[:count], atol=rounding)


@pytest.mark.parametrize(
    ("format_", "package"), [("onnx", "jax2onnx"), ("stablehlo", "flatbuffers")]
)
def test_absent_packages_are_named(source, tmp_path, monkeypatch, format_, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    if package == "flatbuffers":
        monkeypatch.delitem(
            __import__("sys").modules, "jax._src.export.serialization", raising=False
        )
    with pytest.raises(UserError, match=rf"needs {package}; pip install") as caught:
        export(source, format_, tmp_path / "x")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_the_default_place_and_json(source):
    result = click.testing.CliRunner().invoke(
        command, ["--workdir", str(source), "--format", "safetensors", "--json"]
    )
    told = json.loads(result.stdout)
    assert told["output"] == str(source.parent / "rgb.safetensors")
    assert told["bytes"] == (source.parent / "rgb.safetensors").stat().st_size


def test_a_folder_that_cannot_be_written_to(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"x\.pth: cannot be written"):
        export(source, "torch", tmp_path / "file" / "x.pth")


def test_exported_counters_are_the_steps(model):
    encoder = model.method.model(model.weights).rgb
    arrays = torch_names.collect(released_weights.names(encoder), num_batches=7)
    counters = [array for name, array in arrays.items() if name.endswith("num_batches_tracked")]
    assert len(counters) == 11
    assert all(counter == 7 and counter.dtype == np.int64 for counter in counters)
