"""What stood in a new user's way once, row by row; what each row was stands in its test's name."""

import dataclasses
import json
import re
import shutil

import jax
import numpy as np
import pytest

from sicl_jax import config as configs
from sicl_jax import inference, methods
from sicl_jax.errors import UsageError, UserError
from sicl_jax.methods.source import Source
from sicl_jax.runs import metrics, saved
from sicl_jax.training import loop


def failed(outcome, *words, code=1):
    """The command ended with this code and one line of error."""
    lines = [line for line in outcome[2].splitlines() if line.startswith("sicl-jax: error: ")]
    assert outcome[0] == code and len(lines) == 1, outcome
    for word in words:
        assert word in lines[0], lines[0]


def log_lines(folder, kind):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def train(small, folder, *changes, **options):
    said = []
    overrides = [*small, *(f"--config.{change}" for change in changes)]
    config = configs.load("sicl_demo", overrides)
    loop.train(config, folder, quiet=True, say=said.append, **options)
    return said


# ---- 1: a run that never took a step does not own its workdir -------------------------------


def test_a_slip_mended_in_the_same_workdir(sicl, small, tmp_path):
    base = ("train", "--config", "sicl_demo", "--quiet", "--workdir", tmp_path / "run", *small)
    outcome = sicl(*base, "--config.model.pretrained=none")
    failed(outcome, "config.model.pretrained=none: no such file", "imagenet")
    failed(sicl(*base, "--config.method=foo"), "no method 'foo'", code=2)
    failed(sicl("report", "--workdir", tmp_path / "run"), "no run here")
    code, out, err = sicl(*base, "--config.evaluate.every=9", "--config.epochs=1")
    assert code == 0, err
    assert "epoch 1/1" in out


# ---- 6: a finished run with more epochs ------------------------------------------------------


def test_a_finished_run_is_extended_and_the_log_says_so(sicl, small, copy):
    more = ("epochs=3", "schedule.every=1")
    with pytest.raises(UserError, match=r"choose another --workdir \(or --extend that one\)"):
        train(small, copy, *more)
    with pytest.raises(UsageError, match="only config.epochs and config.schedule may change"):
        train(small, copy, *more, "seed=1", extend=True)
    with pytest.raises(UsageError, match="was 2 and is 1; give more"):
        train(small, copy, "epochs=1", extend=True)
    with pytest.raises(UserError, match="--extend: no run in"):
        train(small, copy / "new", extend=True)
    said = train(small, copy, *more, extend=True)
    told = [line for line in said if line.startswith("extended after epoch 2")]
    assert len(told) == 1 and "config.epochs: 2 -> 3" in told[0] and "new schedule" in told[0]
    assert not any("last bits may differ" in line for line in said)
    assert [line["epoch"] for line in log_lines(copy, "epoch")] == [1, 2, 3]
    (line,) = log_lines(copy, "extend")
    assert line["changes"] == "config.epochs: 2 -> 3; config.schedule.every: 6 -> 1"
    first, *_, last = log_lines(copy, "epoch")
    assert last["learning_rate"] == pytest.approx(first["learning_rate"] * 0.1**2)
    size = (copy / "metrics.jsonl").stat().st_size
    train(small, copy, *more, extend=True)  # Given again, it has nothing to do.
    assert (copy / "metrics.jsonl").stat().st_size == size
    code, _, err = sicl("report", "--workdir", copy, "--quiet")
    assert code == 0, err
    assert "Extended after epoch 2: config.epochs: 2 -&gt; 3" in (copy / "report.html").read_text()


def test_a_run_starts_from_a_run_of_ones_own(small, finished):
    pretrained = f"--config.model.pretrained={finished}"
    config = configs.load("sicl_demo", [*small, pretrained])
    method = methods.create(config)
    data = loop.open_dataset(config, method).split("train")
    weights = Source(method, data, 7).weights()
    best = inference.load_run(finished, "best").weights
    for got, wanted in zip(jax.tree.leaves(weights), jax.tree.leaves(best), strict=True):
        np.testing.assert_array_equal(got, wanted)
    wider = configs.load("sicl_demo", [*small, pretrained, "--config.model.width=8"])
    with pytest.raises(UserError, match=r"network has \(.*give config.model as that run has it"):
        methods.create(wider).initial_weights(0)
    two = configs.load("sicl_demo", [*small, pretrained, "--config.silhouettes=True"])
    with pytest.raises(UserError, match="network lacks fusion"):
        methods.create(two).initial_weights(0)
    other = configs.base("cluster_contrast")
    other.model.pretrained = str(finished)
    with pytest.raises(UserError, match="a run of sicl, not of cluster_contrast"):
        methods.create(other).initial_weights(0)


# ---- 7: values that do not go together -------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["batch_size=63"], "batch_size=63: has to be a multiple of .*num_instances=4"),
        (
            ["data.image_size=(8, 8)", "model.stage_sizes=(1, 1, 1, 1)"],
            r"image_size=\(8, 8\): too small",
        ),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(small, changes, message):
    config = configs.load("sicl_demo", [*small, *(f"--config.{change}" for change in changes)])
    with pytest.raises(UsageError, match=message):
        methods.create(config)


def test_more_neighbours_than_there_can_be(small):
    config = configs.load("sicl_demo", [*small, "--config.neighbors.num=1000"])
    method = methods.create(config)
    data = loop.open_dataset(config, method).split("train")
    with pytest.raises(UserError, match="neighbors.num=1000: 96 training images have at most 95"):
        method.check(data)


# ---- 8: training made it worse ---------------------------------------------------------------


def test_the_untrained_network_is_never_the_best(finished):
    assert saved.find(finished, "best").epoch == 2
    assert [line["epoch"] for line in log_lines(finished, "test")] == [0, 2]


def test_a_run_that_training_made_worse_says_so(sicl, copy):
    file = copy / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "test" and line["epoch"] == 0:
            for figures in line.values():
                if isinstance(figures, dict):
                    figures["mAP"] = 1.0
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = "training made it worse: mAP of cloth_changing/single_shot was 100.0% before it"
    code, _, err = sicl("evaluate", "--workdir", copy, "--protocol", "same_clothes/all", "--json")
    assert code == 0 and f"warning: {words}" in err
    log = metrics.read_log(copy)
    assert log.best_test()[1]["epoch"] == 2
    trained = dataclasses.replace(log, tests=log.tests[1:])
    assert trained.made_worse() == ""  # The untrained network was not tested.


# ---- 9: words of our own, and nobody's files --------------------------------------------------


def test_a_folder_of_photographs_is_no_workdir(sicl, small, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    failed(
        sicl("train", "--config", "sicl_demo", "--quiet", "--workdir", tmp_path, *small),
        "holiday.jpg, which is no file of a run", "choose an empty or new --workdir",
    )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_cut_index_is_told_in_our_words(sicl, finished, tmp_path):
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (32, 64), (80 * number, 60, 90)).save(tmp_path / f"{number}.png")
    words = ("--index", tmp_path / "index", "--quiet")
    code, _, err = sicl("index", "--workdir", finished, "--images", tmp_path, *words)
    assert code == 0, err
    file = next((tmp_path / "index").glob("vectors-*.faiss"))
    file.write_bytes(file.read_bytes()[:50])
    outcome = sicl("search", *words, "--query", tmp_path / "0.png")
    failed(outcome, f"{file.name} is cut or damaged", "make it anew")
    assert "faiss/" not in outcome[2]


def test_a_checkpoint_of_another_network_is_told_in_one_line(sicl, copy):
    config = json.loads((copy / "config.json").read_text())
    config["silhouettes"] = True
    (copy / "config.json").write_text(json.dumps(config))
    outcome = sicl("evaluate", "--workdir", copy, "--quiet")
    failed(outcome, "of another model or version (it lacks weights.", "choose another --checkpoint")


def test_a_data_set_without_tests_is_told_in_one_line(sicl, finished, tmp_path):
    from PIL import Image

    (tmp_path / "raw").mkdir()
    for number in range(4):
        Image.new("RGB", (32, 64), (60 * number, 60, 90)).save(tmp_path / f"raw/{number}.png")
    data = ("--data_dir", tmp_path / "data")
    code, _, err = sicl("prepare", "person_folder", "--raw", tmp_path / "raw", *data)
    assert code == 0, err
    outcome = sicl("evaluate", "--workdir", finished, "--dataset", "person_folder", *data)
    failed(outcome, "person_folder has no test splits", "or name another --dataset")


# ---- 10: plain words --------------------------------------------------------------------------


def test_lone_images_are_not_clusters(finished):
    for line in log_lines(finished, "epoch"):
        assert line["clusters"] + line["unclustered"] == line["pseudo_identities"]
        assert line["note"].startswith(f"{line['clusters']} clusters, {line['unclustered']} lone")


def test_one_is_not_many_and_little_is_not_nothing(sicl, finished, tmp_path):
    from PIL import Image

    Image.new("RGB", (32, 64), "teal").save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    outcome = sicl("prepare", "person_folder", "--raw", tmp_path, "--data_dir", tmp_path.parent)
    failed(outcome, ": 1 problem (", "leave this file out with --skip_bad")
    words = ("index", "--workdir", finished, "--images", tmp_path, "--skip_bad", "--quiet")
    assert "1 image added; it holds 1" in sicl(*words, "--index", tmp_path / "index")[1]
    shutil.copytree(finished, tmp_path / "run")
    code, out, _ = sicl("report", "--workdir", tmp_path / "run", "--quiet", "--batch_size", 32)
    assert code == 0 and re.search(r"report.html \(\d+ KB\)|\(\d+\.\d MB\)", out), out
