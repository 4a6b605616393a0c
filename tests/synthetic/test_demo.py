"""The command `sicl-jax demo`."""

import json

import pytest
from click.testing import CliRunner

from sicl_jax import cli
from sicl_jax.errors import StoppedError
from sicl_jax.training import loop


def demo(*arguments):
    return CliRunner().invoke(cli.group, ["demo", "--quiet", *map(str, arguments)])


def test_what_it_tells_is_what_the_log_says(tiny_data, tmp_path):
    settings = (
        "data.name=synthetic_people/tiny", "data.image_size=(64, 32)", "model.pretrained=",
        "model.width=4", "model.stage_sizes=(1,)", "epochs=1", "steps_per_epoch=1", "batch_size=16",
        "embed_batch_size=32", "clustering.k1=8",
    )  # fmt: skip
    overrides = [f"--config.{setting}" for setting in settings]
    where = ("--data_dir", tiny_data, "--workdir", tmp_path)
    told = demo("--method", "cluster_contrast", *where, *overrides)
    assert told.exit_code == 0, told.output
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    before, after = (line for line in lines if line["kind"] == "test")
    summary = json.loads((tmp_path / "summary.json").read_text())
    for name in ("cloth_changing/all", "same_clothes/all"):
        for when, test in (("before", before), ("after", after)):
            assert summary[when][name] == {key: test[name][key] for key in ("rank1", "mAP")}
    assert f"{after['cloth_changing/all']['mAP']:.1%}" in told.output
    assert (tmp_path / "ranked_galleries.png").stat().st_size > 10_000


@pytest.mark.parametrize("mode", ["all", "body"])
def test_a_method_with_a_teacher_trains_it_first(monkeypatch, tmp_path, mode):
    trained = []

    def train(config, folder, **_):
        trained.append((config, folder))
        if config.method == "deskpro":
            raise StoppedError(15, "seen enough")

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr("sicl_jax.data.prepare.prepare", lambda *_: None)
    changes = ("--config.seed=7", "--config.epochs=3", f"--config.forward_mode={mode}")
    demo(
        "--method",
        "deskpro",
        "--data_dir",
        tmp_path / "data",
        "--workdir",
        tmp_path / "run",
        *changes,
    )
    *teachers, (config, folder) = trained
    assert folder == tmp_path / "run"
    assert config.teacher == ("" if mode == "body" else str(tmp_path / "run_teacher"))
    assert len(teachers) == (mode != "body")
    for teacher, theirs in teachers:
        assert theirs == tmp_path / "run_teacher"
        assert (teacher.method, teacher.data.column) == ("lmbn", "face_restored")
        assert (teacher.seed, teacher.epochs) == (7, 3)
        assert (teacher.data.name, teacher.data.dir) == (config.data.name, config.data.dir)
