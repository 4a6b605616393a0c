"""Damaged checkpoints: noticed, named, and never loaded in part."""

import re
import shutil

import damaging
import pytest
from comparing import assert_same_runs, steps
from damaging import DAMAGE, checkpoint, copy_of, files_of_each_kind
from hypothesis import given, settings
from hypothesis import strategies as st

from sicl_jax import cli
from sicl_jax.errors import UserError
from sicl_jax.runs import integrity, saved
from sicl_jax.runs.checkpoints import Checkpoints

KINDS = (
    "manifest.json",
    "run/metadata",
    "state/_METADATA",
    "state/_sharding",
    "state/array_metadatas/process_0",
    "state/manifest.ocdbt",
    "state/d/*",
    "state/ocdbt.process_0/manifest.ocdbt",
    "state/ocdbt.process_0/d/*",
)


@pytest.fixture
def restore(abstract_state):
    """Restores the run of a folder in this process; what was said, and what was found."""

    def run(folder):
        said, checkpoints = [], Checkpoints(folder)
        try:
            return said, checkpoints.restore(abstract_state, said.append)
        finally:
            checkpoints.close()

    return run


def test_every_kind_of_file_is_tried(reference):
    found = files_of_each_kind(checkpoint(reference, "latest", 16))
    assert set(found) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_any_damage_to_any_file_is_named(reference, restore, method, tmp_path, kind):
    """A test refuses it, and training takes the newest checkpoint that is whole."""
    third = ("cut", "empty", "zero")[KINDS.index(kind) % 3]  # All for each take too long.
    for name in ("flip", "remove", third):
        damage = DAMAGE[name]
        run = shutil.copytree(reference, tmp_path / name)
        newest = checkpoint(run, "latest", 16)
        shutil.rmtree(checkpoint(run, "best", 16))
        path = files_of_each_kind(newest)[kind]
        damage(path)
        damaged_file = re.escape(str(path.relative_to(newest)))
        if (kind, name) == ("manifest.json", "flip"):
            damaged_file = ".*"  # It is the file of that line which then looks damaged.

        with pytest.raises(UserError, match=damaged_file) as caught:
            saved.load_weights(run, "latest", lambda _: method)
        assert "\n" not in str(caught.value)

        said, found = restore(run)
        assert found.step == 14
        (warning,) = (line for line in said if "damaged" in line)
        assert re.match(rf"warning: {re.escape(str(newest))} is damaged \({damaged_file} ", warning)
        assert (run / "checkpoints/damaged/latest-16").is_dir()
        assert steps(run, "latest") == [14]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_flipped_bit_goes_unnoticed(reference, tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "flipped"
    if not folder.exists():
        shutil.copytree(checkpoint(reference, "latest", 16), folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = [path for path in files if path.name not in integrity.UNLISTED]
    path = data.draw(st.sampled_from(listed))
    bit = data.draw(st.integers(0, 8 * path.stat().st_size - 1))
    damaging.flip(path, bit)
    assert integrity.find_damage(folder) == (
        f"{path.relative_to(folder)} has other bytes than were written"
    )
    damaging.flip(path, bit)
    assert integrity.find_damage(folder) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        '{"run/metadata": 3}',
        '{"run/metadata": ["x", "y"]}',
        "[" * 9999,
    ],
)
def test_any_manifest(reference, tmp_path, text):
    folder = shutil.copytree(checkpoint(reference, "latest", 16), tmp_path / "16")
    (folder / integrity.MANIFEST).write_text(text)
    assert integrity.find_damage(folder).startswith("manifest.json ")


def test_files_too_many(reference, tmp_path):
    folder = shutil.copytree(checkpoint(reference, "latest", 16), tmp_path / "16")
    (folder / "state/d/more").write_text("x")
    assert integrity.find_damage(folder) == "manifest.json does not list state/d/more"


def test_a_checkpoint_under_another_name(reference, restore, tmp_path):
    """It would go on from another step than its own."""
    run = copy_of(reference, tmp_path)
    checkpoint(run, "latest", 16).rename(checkpoint(run, "latest", 18))
    with pytest.raises(UserError, match="latest/18: .*another step than its name"):
        restore(run)


@pytest.mark.parametrize("name", ["17", "99999999999999999999", "0017", "x17", "١٧"])
def test_other_folders_among_the_checkpoints(reference, restore, tmp_path, name):
    run = copy_of(reference, tmp_path)
    (run / "checkpoints/latest" / name).mkdir()
    _, found = restore(run)
    assert found.step == 16
    assert saved.find(run, "best").step == 16


# ---- whole runs ----------------------------------------------------------------------------


def test_training_goes_on_from_the_newest_whole_one(trainer, reference, tmp_path):
    run = copy_of(reference, tmp_path)
    damaging.flip(files_of_each_kind(checkpoint(run, "latest", 16))["state/d/*"])
    damaging.cut(files_of_each_kind(checkpoint(run, "best", 16))["run/metadata"])
    ended = trainer.train(run)
    assert ended.code == 0, ended.errors
    warnings = re.findall(r"^warning: .*/(\w+)/16 is damaged \(.*\): moved to ", ended.output, re.M)
    assert sorted(warnings) == ["best", "latest"]
    assert "resumed in epoch 4, after step 14" in ended.output
    assert_same_runs(run, reference)


def test_a_lost_best_checkpoint_is_written_again(trainer, reference, tmp_path):
    run = copy_of(reference, tmp_path)
    shutil.rmtree(checkpoint(run, "best", 16))
    assert trainer.train(run).code == 0
    assert_same_runs(run, reference)


def test_no_whole_checkpoint_is_left(trainer, reference, tmp_path, capsys):
    run = copy_of(reference, tmp_path)
    folders = [checkpoint(run, *each) for each in (("latest", 16), ("best", 16), ("latest", 14))]
    for folder in folders:
        damaging.flip(folder / "run/metadata")
    before = sorted(run.rglob("*"))
    ended = trainer.train(run)
    assert ended.code == 1
    (line,) = ended.errors.splitlines()
    assert line.startswith("sicl-jax: error: no whole checkpoint is left (")
    assert all(f"{folder}: run/metadata has other bytes" in line for folder in folders)
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", "--workdir", str(run), "--quiet"])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sicl-jax: error: {folders[1]}: damaged")
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("metrics.jsonl", "cut", r"metrics.jsonl: \d+ of \d+ bytes are left"),
        ("metrics.jsonl", "zero", "metrics.jsonl: damaged"),
        ("config.json", "cut", "config.json: damaged"),
        ("config.json", "remove", "config.json: damaged .it is missing"),
        ("dataset.json", "empty", "dataset.json: damaged"),
    ],
)
def test_the_other_files_of_a_run(trainer, reference, tmp_path, file, damage, message):
    run = copy_of(reference, tmp_path)
    DAMAGE[damage](run / file)
    ended = trainer.train(run)
    assert ended.code == 1
    (line,) = ended.errors.splitlines()
    assert re.search(message, line)
