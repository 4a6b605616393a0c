"""CSSC: its golden files, its weights, and a run of it from the command line."""

import json
import pathlib

import jax
import numpy as np
import pytest
from comparing import assert_same_runs
from flax import nnx

import sicl_jax
from sicl_jax import config as configs
from sicl_jax import devices, export, methods
from sicl_jax.data.augment import normalize
from sicl_jax.errors import UsageError, UserError
from sicl_jax.methods.cssc import verify, weights
from sicl_jax.methods.cssc.model import HEADS
from sicl_jax.models.layers import Frozen
from sicl_jax.verify import Golden, verify_file
from sicl_jax.weights import torch_names, torchvision
from sicl_jax.weights.torch_files import load_state_dict, save_state_dict

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "cssc"
# Maps of two rows, epochs of five or six steps: eight people with twelve images each.
TINY = {
    "data.name": "synthetic_people/tiny",
    "data.image_size": "(32, 16)",
    "model.width": 4,
    "model.pretrained": "",
    "mining.parts": 2,
    "mining.part_features": 4,
    "batch_size": 16,
    "sampler.num_instances": 4,
    "loss.triplet_after": 1,
    "epochs": 2,
    "evaluate.before": False,
    "embed_batch_size": 32,
    "checkpoint_every_steps": 3,
}


def words(**changes):
    return [f"--config.{name}={value}" for name, value in (TINY | changes).items()]


def make(sizes=None, **changes):
    return methods.create(configs.load("cssc_demo", words(**changes)), sizes)


def built(method, seed=0):
    return method.model(devices.put_replicated(method.initial_weights(seed)))


@pytest.mark.parametrize("stem", verify.CHECKS)
def test_golden_numbers(stem):
    checks = verify_file(GOLDEN / f"{stem}.npz", verify.CHECKS)
    assert checks and all(check.ok for check in checks), [c for c in checks if not c.ok]


# ---- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 18}, "batch_size=18: has to be a multiple of .*num_instances=4"),
        ({"model.stage_sizes": "(1, 1, 1, 1)"}, "stage_sizes=.*has to have 3 blocks"),
        ({"mining.parts": 3}, "image_size=.*makes a map of 2 rows, fewer than .*parts=3"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        make(**changes)


def test_the_published_choice_of_a_checkpoint():
    method = make(**{"evaluate.select_by": "released"})
    assert method.select_by("prcc") == "same_clothes/all"
    assert method.select_by("ltcc") == "standard"
    with pytest.raises(UsageError, match="for prcc, ltcc, celeb_reid, not for synthetic_people"):
        method.select_by("synthetic_people/tiny")
    assert make().select_by("prcc") is None


def test_the_published_settings():
    shared = configs.load("cssc_prcc")
    assert shared.batch_size // shared.sampler.num_instances == 4
    for name, num_instances in (("ltcc", 8), ("celeb_reid", 4)):
        config = configs.load(f"cssc_{name}")
        assert config.sampler.num_instances == num_instances
        assert set(configs.differences(shared, config)) <= {
            f"config.data.name: prcc -> {name}",
            "config.sampler.num_instances: 8 -> 4",
        }
    assert methods.create(configs.load("cssc_person_folder")).name == "cssc"


# ---- weights -------------------------------------------------------------------------------


def test_the_second_branch_begins_as_a_copy_and_biases_are_frozen():
    method = make({"classes": 5})
    model = built(method)
    first = nnx.List(model.backbone.layers[-1][:2])
    for one, other in zip(
        *map(jax.tree.leaves, map(nnx.state, (first, model.branch2))), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    frozen = jax.tree.leaves(nnx.state(model, Frozen))
    assert [leaf.shape for leaf in frozen] == [(32,)] * 5 and not any(map(np.any, frozen))
    assert abs(np.std(model.classifier.kernel[...]) - 1e-3) < 3e-4
    bound = 1 / np.sqrt(32)
    hidden = np.asarray(model.content1.squeeze.bias[...])
    assert 0 < np.abs(hidden).max() <= bound and np.ptp(hidden) > 0


def test_imagenet_weights_go_into_both_branches(tmp_path):
    method = make({"classes": 5})
    arrays = torch_names.collect(torchvision.names(built(method, seed=7).backbone))
    save_state_dict(tmp_path / "resnet.pth", arrays | {"fc.weight": np.zeros((3, 32), np.float32)})
    started = make({"classes": 5}, **{"model.pretrained": tmp_path / "resnet.pth"})
    model = built(started)
    for block in (model.backbone.layers[-1][0], model.branch2[0]):
        np.testing.assert_array_equal(
            block.conv1.kernel[...].transpose(3, 2, 0, 1), arrays["layer4.0.conv1.weight"]
        )
    np.testing.assert_array_equal(
        model.classifier.kernel[...], built(method).classifier.kernel[...]
    )


def test_checkpoints_of_the_authors_are_read_and_written(tmp_path):
    method = make({"classes": 5}, **{"data.image_size": "(128, 64)"})
    content = method.checkpoint(built(method, seed=3), epoch=2, steps=9)
    assert content.keys() == {"model_state_dict", "epoch"} and content["epoch"] == 1
    counters = [n for n in content["model_state_dict"] if n.endswith("num_batches_tracked")]
    assert counters and all(content["model_state_dict"][name] == 9 for name in counters)
    save_state_dict(tmp_path / "theirs.pth", content)
    model = sicl_jax.load(tmp_path / "theirs.pth")
    assert model.method.name == "cssc" and model.method.sizes == {"classes": 5}
    assert model.image_size == (384, 192) and model.config.mining.reduction == 16
    for ours, read in zip(
        *map(jax.tree.leaves, (method.initial_weights(3), model.weights)), strict=True
    ):
        np.testing.assert_array_equal(ours, read)


def test_a_checkpoint_of_other_identities_is_refused_in_one_line(tmp_path):
    method = make({"classes": 5})
    content = method.checkpoint(built(method), epoch=1, steps=1)
    save_state_dict(tmp_path / "theirs.pth", content)
    other = make({"classes": 8}, **{"model.pretrained": tmp_path / "theirs.pth"})
    with pytest.raises(UserError, match="trained on 5 identities, not on the 8") as caught:
        other.initial_weights(0)
    assert "\n" not in str(caught.value)


def test_names_are_those_of_the_published_checkpoint():
    """Of the golden file's model, in the file's order."""
    file = Golden(GOLDEN / "model.npz")
    arrays = torch_names.collect(weights.names(verify.model_of(file)))
    ours = [(n, str(a.shape)) for n, a in arrays.items() if not n.endswith("_tracked")]
    names, shapes = (file[f"parameter_{what}"].tolist() for what in ("names", "shapes"))
    assert ours == list(zip(names, shapes, strict=True))


# ---- a run ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_folder(tiny_data, tmp_path_factory, command):
    folder = tmp_path_factory.mktemp("cssc") / "run"
    assert command(arguments(tiny_data, folder)) == 0
    return folder


def arguments(data_dir, folder):
    config = words(**{"data.dir": data_dir})
    return ["train", "--config", "cssc_demo", "--workdir", str(folder), "--quiet", *config]


def lines(folder, kind):
    found = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in found if line["kind"] == kind]


def test_a_run_logs_all_heads_and_brings_the_triplet_in_later(run_folder):
    first, second = lines(run_folder, "epoch")
    terms = {f"{kind}_{head}" for kind in ("identity", "triplet") for head in HEADS}
    for line in (first, second):
        assert line["terms"].keys() == terms
    identity, triplet = (
        [sum(line["terms"][f"{kind}_{head}"] for head in HEADS) for line in (first, second)]
        for kind in ("identity", "triplet")
    )
    assert first["loss"] == pytest.approx(identity[0], rel=1e-5)
    assert second["loss"] == pytest.approx(identity[1] + triplet[1], rel=1e-5)
    assert second["learning_rate"] == pytest.approx(1e-3 * 0.55, rel=1e-5)
    assert lines(run_folder, "test")[-1]["cloth_changing/all"]["mAP"] > 0


def test_a_stopped_run_goes_on_bit_for_bit(run_folder, tiny_data, tmp_path, command, stopped):
    """Stopped within the first epoch, whose number of steps is not the second one's."""
    lengths = np.diff([0, *(line["step"] for line in lines(run_folder, "epoch"))])
    assert len(set(lengths)) > 1
    words = arguments(tiny_data, tmp_path / "run")
    stopped(words)
    assert len(lines(tmp_path / "run", "epoch")) == 0
    assert command(words) == 0
    assert_same_runs(tmp_path / "run", run_folder)


@pytest.mark.parametrize("format_", ["torch", "safetensors", "stablehlo", "onnx"])
def test_exports_give_the_features_that_are_tested(run_folder, tmp_path, format_):
    if format_ == "onnx":
        pytest.importorskip("jax2onnx", reason="jax2onnx is not installed (extra `onnx`)")
    model = sicl_jax.load(run_folder, checkpoint="latest")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 16, 3), np.uint8)
    features = model.embed(list(images))
    network = model.method.model(model.weights)
    batch = jax.numpy.asarray(images)
    summed = sum(network.embed(normalize(view)) for view in (batch, batch[:, :, ::-1]))
    summed /= np.linalg.norm(summed, axis=1, keepdims=True)
    np.testing.assert_allclose(features, summed, atol=1e-5)
    path = tmp_path / f"model{export.FORMATS[format_]}"
    export.write(model, path, format_)
    if format_ == "stablehlo":
        called = jax.export.deserialize(path.read_bytes()).call(batch)
        np.testing.assert_allclose(called, features, atol=1e-5)
        return
    if format_ == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (called,) = session.run(["features"], {"images": images})
        np.testing.assert_allclose(called, features, atol=1e-5)
        return
    arrays = load_state_dict(path)
    names = model.method.names(network)
    assert names.keys() <= arrays.keys()
    again = sicl_jax.load(path)
    for ours, read in zip(*map(jax.tree.leaves, (model.weights, again.weights)), strict=True):
        np.testing.assert_array_equal(ours, read)


def test_evaluate_gives_the_figures_of_training(run_folder, capsys, command):
    words = ["evaluate", "--workdir", run_folder, "--checkpoint", "latest", "--json", "--quiet"]
    assert command(words) == 0
    found = json.loads(capsys.readouterr().out)["protocols"]
    logged = lines(run_folder, "test")[-1]
    assert found == {name: logged[name] for name in found} and len(found) == 6
