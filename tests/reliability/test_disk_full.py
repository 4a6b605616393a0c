"""A disk that is full: one line, nothing lost, and on it goes when there is room again."""

import pathlib
import re
import subprocess

import pytest
from comparing import assert_same_runs

from sicl_jax import cli
from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.pixels import Form
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.errors import UserError
from sicl_jax.runs import integrity

# Bytes that a file may have: room for what is said on standard error, which is a file too.
_LIMIT = 600


def assert_checkpoints_whole(workdir: pathlib.Path) -> list[int]:
    """All checkpoints that bear a name are whole; the steps of the latest ones."""
    folders = [path for path in workdir.glob("checkpoints/*/*") if path.name.isdecimal()]
    for folder in folders:
        assert integrity.find_damage(folder) is None
    return sorted(int(folder.name) for folder in folders if folder.parent.name == "latest")


def failed(ended, *parts: str) -> None:
    """One line, exit code 1."""
    assert ended.code == 1, ended.errors
    (line,) = ended.errors.splitlines()
    assert line.startswith("sicl-jax: error: ")
    for part in parts:
        assert part in line


def test_each_kind_of_file_in_turn(trainer, reference, tmp_path):
    """A limit on the size of files stands in for a full disk; its message is "too large"."""
    run = tmp_path / "run"

    def limited(doing, **settings):
        return trainer.train(run, file_limit=_LIMIT, file_limit_while=doing, settings=settings)

    metrics = (f"{run}: cannot write metrics (File too large); make room there and run the same",)
    saving = (f"{run}/checkpoints: cannot write a checkpoint (File too large); make room",)

    failed(limited("start"), f"{run}: cannot be written to (File too large); make room there")
    assert not (run / "config.json").exists()
    failed(limited("testing", checkpoint_every_steps="0"), *metrics)
    assert_checkpoints_whole(run)
    failed(limited("drawing curves", checkpoint_every_steps="0"), *metrics)
    assert_checkpoints_whole(run)
    failed(limited("manifest", checkpoint_every_steps="1"), *saving)
    assert_checkpoints_whole(run)
    failed(limited("saving best"), *saving)
    last = assert_checkpoints_whole(run)[-1]
    ended = trainer.train(run)
    assert ended.code == 0, ended.errors
    assert re.search(rf"resumed .* step {last}$", ended.output, re.MULTILINE)
    assert_same_runs(run, reference)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a disk of so many KiB, or gives the one that is there this size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kibibytes: int) -> pathlib.Path:
        options = f"size={kibibytes}k" + (",remount" if folder.is_mount() else "")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no small disk can be mounted here: {getattr(error, 'stderr', error)}")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_training_on_a_small_disk(trainer, reference, small_disk):
    run = small_disk(400) / "run"
    failed(trainer.train(run), "(No space left on device); make room there")
    assert assert_checkpoints_whole(run)
    small_disk(8000)
    ended = trainer.train(run)
    assert ended.code == 0, ended.errors
    assert "resumed " in ended.output
    assert_same_runs(run, reference)


def test_preparing_on_a_small_disk(people, small_disk, capsys):
    """First the data set does not fit, then its arrays, each in turn."""
    disk = small_disk(40)
    with pytest.raises(SystemExit) as ended:
        cli.main(["prepare", "synthetic_people/tiny", "--data_dir", str(disk), "--quiet"])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    assert [path.name for path in disk.iterdir() if path.is_dir()] == []

    small_disk(4000)
    prepare(Request("synthetic_people/tiny", disk))
    used = sum(path.stat().st_blocks for path in disk.rglob("*")) // 2
    small_disk(used + 40)
    dataset = load_dataset("synthetic_people/tiny", disk, forms={"image": Form((32, 16))})
    with pytest.raises(UserError, match="cannot write arrays to .*: No space left on device"):
        _ = dataset.split("train").pixels["image"]
    assert [path.name for path in disk.rglob("*/arrays/*/*")] == ["train.labels.npz"]
    small_disk(4000)
    wanted = load_dataset("synthetic_people/tiny", people, forms={"image": Form((32, 16))}).split(
        "train"
    )
    assert (dataset.split("train").pixels["image"] == wanted.pixels["image"]).all()
