"""`sicl-jax verify`: agrees with golden files of any size, and notices numbers that are off."""

import functools
import json
import pathlib
import shutil

import click.testing
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sicl_jax import verify
from sicl_jax.cli.verify import command
from sicl_jax.errors import UserError
from sicl_jax.methods.sicl.verify import CHECKS, TrainSteps, check_train_steps
from sicl_jax.register import METHODS
from sicl_jax.verify import Golden, networks
from sicl_jax.verify.checks import partition_error, relative_error

# Made by make_golden.py; the shipped files are the published code's.
OTHER = pathlib.Path(__file__).parent / "other_sizes"
QUICK = ("clustering", "memory", "optimizer", "evaluation")

# What is only compared, never fed in, so that all of it can be spoilt at once.
OUTPUTS = {
    "clustering": (
        *("jaccard_distance", "sample_tight_score", "cluster_score"),
        *("neighbor_similarity_cosine", "neighbor_similarity_released"),
    ),
    "memory": (
        *("prototype_loss", "neighbor_loss", "cross_prototype_loss", "cross_instance_loss"),
        *("loss_mode0", "loss_mode1", "loss_mode2", "features_after", "grad_other_mode1"),
        *("grad_inputs_mode0", "grad_inputs_mode1", "grad_inputs_mode2"),
    ),
    "optimizer": ("trajectory",),
    "evaluation": (
        "distance",
        "reranked_distance",
        *(
            f"{protocol}_{figure}"
            for protocol in ("sicl", "standard", "cloth_changing", "same_clothes", "all_gallery")
            for figure in ("cmc", "map")
        ),
    ),
}


def quantities(checks):
    return {check.quantity: check for check in checks}


@pytest.mark.parametrize("folder", [verify.GOLDEN, OTHER], ids=["shipped", "other_sizes"])
@pytest.mark.parametrize("name", QUICK)
def test_golden_numbers_agree(folder, name):
    checks = verify.verify_file(folder / f"{name}.npz", CHECKS)
    assert [check for check in checks if not check.ok] == []
    assert {check.quantity for check in checks}.issuperset(OUTPUTS[name])


@pytest.mark.parametrize(("name", "count"), [("train_steps", 19), ("schp", 4), ("sampler", 6)])
def test_other_golden_numbers_agree(name, count):
    checks = verify.verify_file(verify.GOLDEN / f"{name}.npz", CHECKS)
    assert [check for check in checks if not check.ok] == []
    assert len(checks) == count


def spoilt(path, folder, names, change):
    with np.load(path) as file:
        arrays = dict(file)
    for name in names:
        arrays[name] = change(arrays[name])
    np.savez(folder / path.name, **arrays)
    return folder / path.name


def off_in_one_place(array):
    """A thousandth of the largest magnitude added to a single number."""
    array = np.array(array, np.float64)
    array.flat[array.size // 2] += 1e-3 * np.abs(array).max()
    return array


@pytest.mark.parametrize("name", QUICK)
def test_a_thousandth_in_one_place_is_noticed(tmp_path, name):
    path = spoilt(OTHER / f"{name}.npz", tmp_path, OUTPUTS[name], off_in_one_place)
    differ = {check.quantity for check in verify.verify_file(path, CHECKS) if not check.ok}
    assert differ.issuperset(OUTPUTS[name])


@pytest.fixture(scope="module")
def training():
    """What the other file's training comes to in float64, for any file of its inputs."""
    path = OTHER / "train_steps.npz"
    with jax.enable_x64(True):
        compute = TrainSteps(Golden(path, float64=True))
        return functools.cache(lambda seed: compute(Golden(path, float64=True).nudged(seed)))


def check_training(path, training):
    with jax.enable_x64(True):
        golden = Golden(path, float64=True)
        return list(check_train_steps(golden, lambda golden: training(golden.seed)))


def test_training_of_another_size_agrees_in_float64(training):
    checks = check_training(OTHER / "train_steps.npz", training)
    assert [check for check in checks if not check.ok] == []
    assert {check.tolerance for check in checks} == {1e-8}


def test_training_that_did_not_happen_is_noticed(training, tmp_path):
    """Final weights and banks as they were at the start; everything else off by 1 %."""
    with np.load(OTHER / "train_steps.npz") as file:
        arrays = dict(file)
    for name in list(arrays):
        if "_final_" in name:
            arrays[name] = arrays[name.replace("_final_", "_")]
        elif name == "losses" or "_grad_" in name or name.startswith(("step0_", "eval_")):
            arrays[name] = arrays[name] * 1.01
    for name, start in {"rgb": "rgb", "mask": "mask", "fusion": "rgb"}.items():
        arrays[f"bank_{name}_final"] = arrays[f"bank_{start}_initial"]
    np.savez(tmp_path / "train_steps.npz", **arrays)
    checks = check_training(tmp_path / "train_steps.npz", training)
    assert [check for check in checks if check.ok] == []


class Scaled(nnx.Module):
    """ReLUs of scaled inputs, twice."""

    def __init__(self):
        self.scale = nnx.Param(jnp.ones(4))

    def __call__(self, x):
        return jnp.sum(jax.nn.relu(jax.nn.relu(x) + self.scale[...] * x))


def test_relus_that_rounding_decides_are_found_and_flipped():
    x = jnp.array([3.0, -2e-7, 4e-7, -1.0])
    kinks = networks.Kinks(lambda model, x: model(x))
    # By distance from 0: at the first ReLU and at the second -2e-7 and 4e-7, there 8e-7.
    found = kinks.places(0b1111, Scaled(), x).tolist()
    assert sorted(found[:2]) == [[0, 1], [1, 1]] and found[2:] == [[0, 2], [1, 2], [-1, -1]]
    assert kinks.places(0, Scaled(), x) is None

    @jax.jit
    def gradient(flips):
        def value(model):
            with networks.flipped(flips):
                return model(x)

        return nnx.grad(value)(Scaled()).scale[...]

    passed = np.array([1, 0, 1, 0])
    for place in range(4):
        flips = np.array([[1, place]], np.int32)
        expected = np.where(np.arange(4) == place, 1 - passed, passed) * x
        np.testing.assert_allclose(gradient(flips), expected)


def test_a_pass_flips_what_it_is_told_to():
    x = jnp.array([3.0, -2e-7, 4e-7, -1.0])
    run = networks.Pass(Scaled(), lambda model: {"scale": model.scale}, lambda m, x: (m(x), ()))
    for flips, passed in ((0, [1, 0, 1, 0]), (0b11, [1, 1, 1, 0])):
        found = run(Scaled(), x, flips=flips).gradients["scale"]
        np.testing.assert_allclose(found, np.array(passed) * x)


@pytest.fixture
def cancelling(tmp_path):
    """A golden file of y = x - 1 near x = 1: seven digits of x leave one of y."""
    x = 1 + 1e-6 * np.random.default_rng(0).random(20)
    np.savez(tmp_path / "cancelling.npz", x=x, y=x - 1)
    return tmp_path / "cancelling.npz"


def cancel(golden):
    return {"y": golden["x"] - 1}


def test_an_ill_conditioned_quantity_is_allowed_what_rounding_does(cancelling):
    (check,) = Golden(cancelling).check_controlled(cancel, {"y": 1e-4})
    assert check.ok and check.ill_conditioned and check.error > 1e-3
    (check,) = Golden(cancelling).check_controlled(lambda g: {"y": 3 * cancel(g)["y"]}, {"y": 1e-4})
    assert check.ill_conditioned and not check.ok


def test_in_float64_it_is_well_conditioned_and_its_digits_are_asked_for(cancelling):
    golden = Golden(cancelling, float64=True)
    (check,) = golden.check_controlled(cancel, {"y": 1e-4})
    assert check.ok and not check.ill_conditioned and check.tolerance == 1e-8
    (check,) = golden.check_controlled(lambda g: {"y": cancel(g)["y"] * (1 + 1e-6)}, {"y": 1e-4})
    assert not check.ok


@pytest.fixture
def kinked(tmp_path):
    """Gradients of a layer of ReLUs, of which one has an input of 0 but for rounding.

    The file has it on the other side of 0; so does one of a few controls.
    """
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((12, 30), (30, 8)))
    x[0, 0] -= np.float64(x[0]) @ w[:, 0] / w[0, 0]
    arrays = {"x": x, "w": w, "cotangent": rng.normal(size=(12, 8))}
    signs = np.float64(x) @ w > 0
    signs[0, 0] = not signs[0, 0]
    delta = arrays["cotangent"] * signs
    grads = {"grad:w": x.T @ delta, "grad:x": delta @ w.T}
    np.savez(tmp_path / "kinked.npz", **arrays, **grads)
    return tmp_path / "kinked.npz"


def kinked_gradients(golden):
    x, w = golden["x"], golden["w"]
    delta = golden["cotangent"] * (np.float64(x) @ w > 0)
    return {"grad:*": {"w": x.T @ delta, "x": delta @ w.T}}


def check_kinked(path, change=lambda gradients: gradients):
    def compute(golden):
        return {"grad:*": change(kinked_gradients(golden)["grad:*"])}

    (check,) = Golden(path).check_controlled(compute, {"grad:*": 1e-3}, direct=["grad:*"])
    return check


def test_a_gradient_that_rounding_decides_is_ill_conditioned(kinked):
    """A control agrees within the fixed tolerance, which is no wider than it was."""
    check = check_kinked(kinked)
    assert check.ok and check.decided_by_rounding and check.ill_conditioned
    assert check.error > 1e-2 and check.nearest < 1e-5 and check.allowed == check.tolerance


@pytest.mark.parametrize("name", ["w", "x"])
@pytest.mark.parametrize("factor", [1.01, -1.0])
def test_a_kink_excuses_no_wrong_gradient(kinked, name, factor):
    check = check_kinked(kinked, lambda g: g | {name: factor * g[name]})
    assert not check.ok and not check.ill_conditioned and check.nearest > 5e-3


def test_a_direct_quantity_that_agrees_needs_no_control(kinked):
    runs = []

    def compute(golden):
        runs.append(golden.seed)
        return kinked_gradients(golden)

    (check,) = Golden(kinked).check_controlled(compute, {"grad:*": 1.0}, direct=["grad:*"])
    assert check.ok and not check.ill_conditioned and runs == [None]


def test_a_control_that_is_not_finite_allows_nothing():
    assert not verify.Check("a.npz", "b", 1.0, 1e-4, control=np.inf).ok
    assert not verify.Check("a.npz", "b", np.nan, 1e-4, control=1.0).ok
    assert not verify.Check("a.npz", "b", np.nan, 1e-4, nearest=0.0).ok


def test_one_label_in_another_cluster_is_noticed(tmp_path):
    def move(labels):
        labels = labels.copy()
        labels[0] = labels.max() + 1
        return labels

    names = ("dbscan_labels", "dbscan_labels_tight", "pseudo_labels_tight")
    path = spoilt(OTHER / "clustering.npz", tmp_path, names, move)
    checks = quantities(verify.verify_file(path, CHECKS))
    assert not any(checks[name].ok for name in names)


def test_partitions():
    labels = np.array([0, 0, 1, 1, -1, -1])
    assert partition_error(labels, np.array([7, 7, 3, 3, -1, -1])) == 0
    assert partition_error(labels, np.array([0, 0, 0, 0, -1, -1])) > 0
    assert partition_error(labels, np.array([0, 0, 1, 1, 2, 2])) > 0
    assert partition_error(labels, np.array([0, 0, 1, 1, -1, 2])) > 0
    assert partition_error(labels, labels[:3]) == np.inf


def test_relative_error():
    assert relative_error([1.0, 2.0], [1.0, 4.0]) == 0.5
    assert relative_error(np.ones(2), np.ones(3)) == np.inf
    assert not relative_error([np.nan], [1.0]) <= 1.0
    assert relative_error([1e-9], [0.0], least=1.0) == 1e-9


def run(*arguments):
    """The command with its own exit code and error line."""
    result = click.testing.CliRunner().invoke(command, arguments)
    if isinstance(result.exception, UserError):
        return result.exception.exit_code, result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def quick_folder(tmp_path):
    for name in ("optimizer", "evaluation"):
        shutil.copy(OTHER / f"{name}.npz", tmp_path)
    return tmp_path


def test_the_table(quick_folder):
    code, output, _ = run(str(quick_folder), "--allow_missing")
    assert code == 0
    header, *rows, last = output.splitlines()
    assert header.split("  ")[0] == "file"
    assert len(rows) == 15
    assert all(row.endswith("  agrees") for row in rows)
    assert last.startswith("15 of 15 quantities agree on ")


def test_json_and_the_exit_code(quick_folder):
    spoilt(OTHER / "optimizer.npz", quick_folder, ["trajectory"], lambda array: array[:, 1:])
    code, output, error = run(str(quick_folder), "--allow_missing", "--json")
    assert code == 1
    assert error.startswith("1 of 15 quantities are beyond their tolerance")
    result = json.loads(output)
    assert result["ok"] is False
    assert result["checks"][0] == {
        "file": "optimizer.npz",
        "quantity": "trajectory",
        "largest_relative_error": None,
        "tolerance": 1e-5,
        "ill_conditioned": False,
        "nearest_control": None,
        "verdict": "DIFFERS",
    }
    assert {row["verdict"] for row in result["checks"][1:]} == {"agrees"}


def test_missing_files_are_named(quick_folder, tmp_path_factory):
    code, _, error = run(str(quick_folder), "--method", "sicl")
    assert code == 1
    missing = "clustering.npz, memory.npz, train_steps.npz, sampler.npz, schp.npz"
    assert error == f"{quick_folder}: lacks {missing}; pass --allow_missing to skip them"
    with pytest.raises(UserError, match="holds none of clustering.npz, "):
        list(verify.verify(tmp_path_factory.mktemp("empty"), allow_missing=True))


def test_each_method_has_its_folder(tmp_path, monkeypatch):
    class Method:
        checks = {"optimizer": CHECKS["optimizer"]}

        @classmethod
        def golden_checks(cls):
            return cls.checks

    monkeypatch.setattr(METHODS, "_registered", {"another": Method})
    (tmp_path / "another").mkdir()
    for folder in (tmp_path, tmp_path / "another"):
        shutil.copy(OTHER / "optimizer.npz", folder)
    files = {check.file for check in verify.verify(tmp_path, allow_missing=True)}
    assert files == {"optimizer.npz", "another/optimizer.npz"}
    code, output, _ = run(str(tmp_path / "another"), "--method", "another")
    assert code == 0 and "1 of 1 quantities agree" in output
    code, _, error = run("--method", "anothr")
    assert code == 2 and "did you mean another?" in error
    Method.checks = {}
    code, _, error = run("--method", "another")
    assert code == 1 and error == "--method another: it comes with no golden numbers to check"


@pytest.mark.parametrize("damage", ["truncated", "key", "shape", "text"])
def test_damaged_files_give_one_line(tmp_path, damage):
    data = (OTHER / "optimizer.npz").read_bytes()
    path = tmp_path / "optimizer.npz"
    with np.load(OTHER / "optimizer.npz") as file:
        arrays = dict(file)
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "text":
        path.write_text("hello")
    elif damage == "key":
        del arrays["trajectory"]
        np.savez(path, **arrays)
    else:
        np.savez(path, **arrays | {"gradients": np.zeros((2, 99))})
    with pytest.raises(UserError, match=r"optimizer\.npz: ") as caught:
        verify.verify_file(path, CHECKS)
    assert "\n" not in str(caught.value)
