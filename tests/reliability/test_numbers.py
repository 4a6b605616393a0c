"""Numbers that are not finite: the step, the term, a state to look at, and the operation."""

import ast
import json
import pathlib
import re

import numpy as np
import pytest
from comparing import assert_same_runs, saved_state, steps

import sicl_jax
from sicl_jax.runs import integrity
from sicl_jax.training.numbers import first_not_finite

_FAILED = re.compile(
    r"sicl-jax: error: step (\d+): (.+) not finite; the state after step (\d+) is in (.+); run "
    r"again with --debug_nans to find the operation, or train anew with a lower "
    r"--config\.optimizer\.learning_rate"
)


def stopped(ended) -> tuple[int, list[str], pathlib.Path]:
    """The step, what was not finite in it, and where the state is."""
    assert ended.code == 1, ended.errors
    (line,) = ended.errors.splitlines()
    step, names, after, folder = _FAILED.fullmatch(line).groups()
    assert pathlib.Path(folder).name == after
    return int(step), names.split(", "), pathlib.Path(folder)


def test_a_loss_stops_the_run_and_leaves_it_whole(trainer, reference, tmp_path):
    run = tmp_path / "run"
    step, names, folder = stopped(
        trainer.train(run, spoilt={"7": "memory/banks/fusion/prototypes"})
    )
    assert (step, names) == (7, ["fusion_prototype"])

    assert folder == run / "checkpoints/failed/7"
    assert integrity.find_damage(folder) is None
    state = saved_state(folder)
    wanted = saved_state(reference / "checkpoints/latest/16")
    assert {name: array.shape[1:] for name, array in state.items()} == {
        name: array.shape[1:] for name, array in wanted.items()
    }
    bank = "['memory']['banks']['fusion']['prototypes']"
    assert not np.isfinite(state[bank]).all() and np.isfinite(wanted[bank]).all()
    progress = json.loads((folder / "run/metadata").read_text())
    assert (progress["epoch"], progress["step_in_epoch"]) == (1, 2)

    assert steps(run, "latest")[-1] == 6
    again = trainer.train(run)
    assert again.code == 0, again.errors
    assert "resumed in epoch 2, after step 6" in again.output
    assert_same_runs(run, reference)


def test_weights_that_are_not_finite_are_noticed_at_the_next_step(trainer, tmp_path):
    """The update of step 3 was not finite, its loss was."""
    run = tmp_path / "run"
    step, names, folder = stopped(trainer.train(run, spoilt={"3": "optimizer"}))
    assert step == 4
    assert {"rgb_prototype", "silhouette_prototype", "fusion_prototype"} <= set(names)
    assert any(not np.isfinite(array).all() for array in saved_state(folder).values())
    assert steps(run, "latest") == [2]


def test_gradients_that_are_not_finite_spoil_no_bank_and_are_not_saved(trainer, tmp_path):
    """A finite loss with a slope that is not, when a checkpoint was due."""
    run = tmp_path / "run"
    step, names, folder = stopped(trainer.train(run, spoilt_gradients=2))
    assert step == 2
    assert len(names) == 3 and all(name.startswith("params.") for name in names)
    for name, array in saved_state(folder).items():
        if name.startswith("['weights']['params']"):
            assert np.isnan(array).all(), name
        if "banks" in name:
            assert np.isfinite(array).all(), name
    assert steps(run, "latest") == []


def test_debug_nans_finds_the_operation(trainer, tmp_path):
    ended = trainer.train(
        tmp_path / "run",
        spoilt={"1": "memory/banks/rgb/prototypes"},
        settings={"silhouettes": "False"},  # Half the model is compiled in half the time.
        flags=("--debug_nans",),
    )
    assert ended.code == 1
    (line,) = ended.errors.splitlines()
    found = re.fullmatch(
        r"sicl-jax: error: step 1: (.*), sicl_jax/methods/sicl/losses\.py:(\d+) in (\w+)", line
    )
    what, number, function = found.groups()
    assert "nan" in what and "Traceback" not in what
    assert int(number) in lines_of("methods/sicl/losses.py", function)


def lines_of(file: str, function: str) -> range:
    """Lines of a function of the package."""
    tree = ast.parse((pathlib.Path(sicl_jax.__file__).parent / file).read_text())
    (found,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == function
    )
    return range(found.lineno, found.end_lineno + 1)


@pytest.mark.parametrize(
    ("metrics", "found"),
    [
        ({"loss": [1, 2], "a": [0, 1]}, None),
        ({"loss": [1, np.nan], "a": [0, np.nan], "b": [0, 1]}, (1, ["a"])),
        ({"loss": [np.inf, np.nan], "a": [0, np.nan], "b": [np.inf, 1]}, (0, ["b"])),
        ({"loss": [1, np.inf], "a": [3e38, 3e38], "b": [-1, 3e38]}, (1, ["loss"])),
        ({"loss": [1, np.inf], "a": [0, -np.inf], "b": [0, np.inf]}, (1, ["a", "b"])),
    ],
)
def test_the_first_step_and_its_terms(metrics, found):
    assert first_not_finite({name: np.array(values) for name, values in metrics.items()}) == found
