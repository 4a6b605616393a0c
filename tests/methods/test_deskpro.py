"""DeskPro: its golden files, what it refuses, and a run of it with its teacher."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import assert_same_runs
from flax import nnx

import sicl_jax
from sicl_jax import config as configs
from sicl_jax import devices, export, methods
from sicl_jax.data.dataset import Split
from sicl_jax.errors import UsageError, UserError
from sicl_jax.methods import source
from sicl_jax.methods.deskpro import verify, verify_network, weights
from sicl_jax.methods.deskpro.method import Kept
from sicl_jax.methods.state import Batch, Clock, Weights
from sicl_jax.methods.supervised import class_identities
from sicl_jax.models.lmbn import flatten_columns, unit_columns
from sicl_jax.training import loop
from sicl_jax.training.position import Position
from sicl_jax.verify import Golden, verify_file
from sicl_jax.weights import torch_names
from sicl_jax.weights.torch_files import load_state_dict, save_state_dict

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "deskpro"
# Networks of four blocks, epochs of four or five steps.
TINY = {
    "data.name": "synthetic_people/faces_tiny",
    "data.image_size": "(32, 16)",
    "data.face_size": "(16, 16)",
    "model.blocks": "(1, 1, 1)",
    "model.channels": "(8, 64, 64, 64)",
    "model.features": 16,
    "batch_size": 16,
    "sampler.num_instances": 4,
    "epochs": 1,
    "evaluate.before": False,
    "evaluate.every": 2,
    "embed_batch_size": 32,
    "checkpoint_every_steps": 2,
}
# What the published size needs stands in test_osnet.py; recomputing it takes minutes.
FILES = [stem for stem in verify.CHECKS if stem != "full_size"]


def words(**changes):
    return [f"--config.{name}={value}" for name, value in (TINY | changes).items()]


def make(sizes=None, **changes):
    return methods.create(configs.load("deskpro_demo", words(**changes)), sizes)


@pytest.mark.parametrize("stem", FILES)
def test_golden_numbers(stem):
    checks = verify_file(GOLDEN / f"{stem}.npz", verify.CHECKS)
    assert checks and all(check.ok for check in checks), [c for c in checks if not c.ok]


# ---- what it refuses -----------------------------------------------------------------------


def split(identities, border=255, **has) -> Split:
    """A split of whose images `has` says which pictures they have; of masks with such a border."""
    count = len(identities)
    masks = np.full((count, 8, 4), border, np.uint8)
    masks[:, 2:-2, 1:-1] = 255 - border
    labels = {"identity": np.array(identities, np.int32)}
    for picture in ("mask", "face", "face_restored"):
        labels[f"has_{picture}"] = np.array(has.get(picture, [1] * count), np.int32)
    return Split({"mask": masks}, labels, tuple(f"{i}.jpg" for i in range(count)))


FOUR = [1, 1, 2, 2, 3, 3, 4, 4]


def of_faces(**changes):
    """Settings of a teacher that fits."""
    changes = {"data.image_size": "(16, 16)"} | changes
    return [word for word in words(**changes) if "face_size" not in word]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    """A file of a drawn teacher of eight identities, in the authors' format."""
    method = methods.create(configs.load("deskpro_teacher_demo", of_faces()), {"classes": 8})
    model = method.model(devices.put_replicated(method.initial_weights(5)))
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    save_state_dict(path, method.checkpoint(model, epoch=1, steps=1))
    return str(path)


@pytest.mark.parametrize(
    ("has", "line"),
    [
        ({"face": [0] * 8}, "none of 8 training images has a face; make faces with sicl-jax faces"),
        ({"mask": [0] * 8}, "none of 8 training images has a mask; make masks with sicl-jax masks"),
        (
            {"face": [1, 0] * 4, "mask": [0, 1] * 4},
            "no training image has all of face, restored face and mask",
        ),
        (
            {"face": [1] * 4 + [0] * 4},
            "2 training identities are fewer than the 4 of a batch.*4 of 8 .*lack a face",
        ),
    ],
)
def test_data_that_lack_something_are_refused(has, line):
    with pytest.raises(UserError, match=line) as caught:
        make().check(split(FOUR, **has))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", "--config.teacher is empty: train a teacher with configs/deskpro_teacher"),
        ("not_there.pth", "teacher=not_there.pth: no such workdir or file; train a teacher"),
        ("{file}", "the teacher knows 8 identities, the training data have 4"),
    ],
)
def test_a_run_begins_with_a_teacher_of_its_identities(teacher, path, line):
    with pytest.raises(UserError, match=line) as caught:
        make(teacher=path.format(file=teacher)).check_start(split(FOUR), "")
    assert "\n" not in str(caught.value)


def test_a_teachers_run_tells_whom_it_knows(teacher_run):
    folder, fingerprint = teacher_run
    people = np.repeat(np.arange(8), 2)
    method = make(teacher=folder)
    assert method.check_start(split(people), fingerprint) == []
    (warning,) = method.check_start(split(people), "another")
    assert "learned on synthetic_people/faces_tiny, fingerprint" in warning
    with pytest.raises(UserError, match=r"8 identities but not those of .* \(it does not know 8\)"):
        method.check_start(split(people + 2), fingerprint)


def test_silhouettes_are_refused_but_for_the_authors_masks(teacher):
    silhouettes = split(np.repeat(np.arange(8), 2), border=0)
    with pytest.raises(UserError, match="faces_tiny: its masks are silhouettes") as caught:
        make(teacher=teacher).check(silhouettes)
    assert "\n" not in str(caught.value)
    assert make(teacher=teacher, **{"data.name": "deskpro/prcc"}).check(silhouettes) == []
    assert make(teacher=teacher, forward_mode="face").check(silhouettes) == []


def test_what_is_left_out_is_told(teacher):
    people = np.repeat(np.arange(9), 2)
    has_face = [1] * 16 + [0, 0]
    method = make(teacher=teacher)
    warnings = method.check(split(people, face=has_face, face_restored=[0] * 18))
    assert any("2 of 18 training images lack a face" in w and "1 identities" in w for w in warnings)
    assert any("the teacher sees the same faces" in w for w in warnings)
    assert method.measure(split(people, face=has_face, face_restored=[0] * 18), None) == {
        "classes": 8
    }


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"batch_size": 9}, "batch_size=9: has to be a multiple of .*num_instances=4"),
        ({"model.channels": "(8, 64, 66, 64)"}, "channels=.*multiples of 4 and at least 64"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, line):
    with pytest.raises(UsageError, match=line):
        make(**changes)


# ---- classes, draws and heads --------------------------------------------------------------


def test_classes_are_sorted_as_the_published_code_sorts_them():
    data = split([10, 2, 10, 9])
    everybody = np.ones(4, bool)
    assert class_identities(data, everybody).tolist() == [2, 9, 10]
    named = dataclasses.replace(data, names=("a/10_c1.jpg", "a/2_c1.jpg", "a/10_c2.jpg", "9_1.jpg"))
    assert class_identities(named, everybody).tolist() == [10, 2, 9]
    padded = dataclasses.replace(named, names=("010_c1", "002_c1", "010_c2", "009_1"))
    assert class_identities(padded, everybody).tolist() == [2, 9, 10]
    assert class_identities(named, np.array([0, 1, 0, 1], bool)).tolist() == [2, 9]


def test_released_draws_are_those_of_a_loaders_worker():
    method = make({"classes": 4}, compat="released")

    def draws(step, epoch=0):
        clock = Clock.at(step, epoch, 10, first_step=0)
        return np.asarray(method._shared_draws(3, clock).flip)

    first = draws(0)
    assert len(set(first.tolist())) == 1
    np.testing.assert_array_equal(first, draws(4))
    assert first[0] != draws(1)[0] and first[0] != draws(0, epoch=1)[0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [0.2] * 7 + [1] * 7),
        ({"loss.distill": False}, [1] * 14),
        ({"forward_mode": "face"}, [0.2] * 7),
        ({"forward_mode": "body"}, [1] * 7),
        ({"forward_mode": "body", "compat": "released"}, [0.2] * 7),
    ],
)
def test_who_shares_with_the_teacher(changes, expected):
    assert make(**changes)._head_weights() == pytest.approx(expected)


def test_the_best_networks_of_earlier_tests_are_served():
    method = make({"classes": 4})
    model = nnx.eval_shape(method.build)
    abstract = Weights.of(model)
    one, two = (
        jax.tree.map(lambda leaf, v=value: np.full(leaf.shape, v, leaf.dtype), abstract)
        for value in (1, 2)
    )
    kept = {
        stream: Kept(np.float32(-1), np.int32(0), part)
        for stream, part in method._parts(one).items()
    }
    assert method.served(two, kept) is two  # Nothing has been tested yet.
    state = method.start(one, methods.deskpro.method.DeskProMemory(jnp.arange(4), kept))
    assert method.after_test(state, {"face": 0.9, "body": 0.9}) == (state, {})  # Untrained.
    state = dataclasses.replace(state, clock=Clock.at(3))
    state, steps = method.after_test(state, {"face": 0.5, "body": 0.3})
    assert steps == {"face": 3, "body": 3}
    state = dataclasses.replace(state, weights=two, clock=Clock.at(9))
    state, steps = method.after_test(state, {"face": 0.49996, "body": 0.29})
    assert steps == {"face": 9, "body": 3}  # Equal to four digits is not beaten.
    served = method.model(method.served(two, state.memory.kept))
    assert float(served.student.trunk.conv1.conv.kernel[0, 0, 0, 0]) == 2
    assert float(served.body.trunk.conv1.conv.kernel[0, 0, 0, 0]) == 1


# ---- a run ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faces(tmp_path_factory, command) -> pathlib.Path:
    """The drawn people with faces and part labels, prepared."""
    folder = tmp_path_factory.mktemp("faces")
    assert command(["prepare", TINY["data.name"], "--data_dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def teacher_run(faces, tmp_path_factory) -> tuple[pathlib.Path, str]:
    """The workdir of a teacher's run before its first step, and its data set's fingerprint."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    config = configs.load("deskpro_teacher_demo", of_faces(**{"data.dir": faces}))
    method = methods.create(config)
    dataset = loop.open_dataset(config, method)
    with Position(
        folder, method, dataset.split("train"), dataset.fingerprint, None, print
    ) as begun:
        begun.advance()
        begun.save()
        begun.wait()
    return folder, dataset.fingerprint


def test_a_state_is_restored_without_the_teacher(faces):
    """Checkpoints hold its weights."""
    method = make({"classes": 8}, teacher="gone", **{"data.dir": faces})
    data = loop.open_dataset(method.config, method).split("train")
    method.check(data)
    state = source.abstract_state(method, data)
    held = Weights.of(method.abstract_model().teacher)
    assert jax.tree.structure(state.weights.frozen["teacher"]) == jax.tree.structure(held.frozen)


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory, command) -> pathlib.Path:
    """A finished run of the body network: to compile both networks' training takes minutes."""
    folder = tmp_path_factory.mktemp("deskpro") / "run"
    assert command(train(folder, faces)) == 0
    return folder


def train(folder, faces, **changes):
    own = {"data.dir": faces, "forward_mode": "body"} | changes
    return ["train", "--config", "deskpro_demo", "--workdir", str(folder), "--quiet", *words(**own)]


def test_a_run_tells_its_terms_and_its_stream(run, command):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    test = [line for line in lines if line["kind"] == "test"][-1]
    assert 0 < test["cloth_changing/single_shot"]["mAP"] <= 1
    epoch = [line for line in lines if line["kind"] == "epoch"][-1]
    assert set(epoch["terms"]) == {"identification", "attention"}
    assert command(["evaluate", "--workdir", str(run), "--quiet", "--json"]) == 0


def test_only_a_run_that_begins_needs_its_teacher(run, faces, tmp_path, command, monkeypatch):
    def refuse(*_):
        raise UserError("no teacher")

    monkeypatch.setattr(methods.deskpro.DeskPro, "check_start", refuse)
    assert command(train(run, faces)) == 0
    assert command(train(tmp_path / "new", faces)) == 1


def test_a_run_that_is_stopped_goes_on_bit_for_bit(run, faces, tmp_path, command, stopped):
    other = tmp_path / "other"
    stopped(train(other, faces))
    assert command(train(other, faces)) == 0
    assert_same_runs(run, other)


def test_an_export_bears_the_authors_names_and_loads_again(run, tmp_path):
    model = sicl_jax.load(run)
    path = tmp_path / "deskpro.pth"
    export.write(model, path, "torch")
    arrays = load_state_dict(path)
    assert "model.nocloth_net.spatial_attn.conv1.weight" in arrays
    np.testing.assert_array_equal(
        arrays["model.nocloth_net.branches.1.backbone2.2.conv.weight"],
        arrays["model.nocloth_net.part_branch.backbone2.2.conv.weight"],
    )
    found = methods.deskpro.DeskPro.recognize(arrays)
    assert found["model.channels"] == (8, 64, 64, 64) and found["model.blocks"] == (1, 1, 1)
    again = sicl_jax.load(path)
    assert list(again.method.streams) == ["body"] and again.method.sizes == model.method.sizes
    loaded = torch_names.collect(weights.names(again.method.model(again.weights)))
    for name, array in loaded.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(arrays[f"model.{name}"], array)
    of_faces = {n.replace(weights.BODY, weights.STUDENT): a for n, a in arrays.items()}
    assert methods.deskpro.DeskPro.recognize(of_faces)["forward_mode"] == "face"
    assert methods.deskpro.DeskPro.recognize(arrays | of_faces)["forward_mode"] == "all"


def test_a_gallery_with_a_third_of_the_faces_removed_ranks_by_the_body():
    golden = Golden(GOLDEN / "embedding.npz")
    evaluator = verify_network.evaluator_of(golden)
    arrays = Weights.of(evaluator.filled(golden))
    pixels = {name: p[:6] for name, p in verify_network.pixels_of(golden).items()}
    has_face = np.array([1, 0, 1, 1, 0, 1], np.int32)
    rows = [
        np.asarray(unit_columns(flatten_columns(evaluator(arrays, pixels, faces)[0]), 14))
        for faces in (np.ones(6, np.int32), has_face)
    ]
    whole, some = rows
    half = whole.shape[1] // 2
    assert np.isfinite(some).all() and not some[has_face == 0, :half].any()
    np.testing.assert_array_equal(some[:, half:], whole[:, half:])
    distance = 1 - some @ some.T
    # From and to who has no face the body decides, between the others nothing changes.
    body = 1 - whole[:, half:] @ whole[:, half:].T
    lacks = (has_face[:, None] * has_face[None]) == 0
    np.testing.assert_allclose(distance[lacks], body[lacks], atol=1e-5)
    np.testing.assert_allclose(distance[~lacks], (1 - whole @ whole.T)[~lacks], atol=1e-5)


def test_a_batch_as_stored_has_no_need_of_what_the_mode_leaves_out():
    method = make({"classes": 4}, forward_mode="body")
    assert set(method.forms) == {"image", "mask"} and method.labels == ("identity",)
    assert set(make({"classes": 4}, forward_mode="face").forms) == {"face", "face_restored"}
    batch = Batch(jnp.arange(2), {"image": jnp.zeros((2, 32, 16, 3), jnp.uint8)}, {})
    shape = jax.eval_shape(lambda: method.embed(method.build(), batch, "body"))
    assert shape.shape == (2, 7 * 16)
