"""Checkpoints spoilt as disks, people and half-finished copies spoil them."""

import pathlib
import shutil

from sicl_jax.runs import integrity


def files_of_each_kind(checkpoint: pathlib.Path) -> dict[str, pathlib.Path]:
    """One file of each kind in a checkpoint, the largest, by a name without digests."""
    kinds: dict[str, pathlib.Path] = {}
    for path in sorted(checkpoint.rglob("*"), key=lambda path: path.stat().st_size):
        name = path.relative_to(checkpoint)
        if path.is_file() and path.name not in integrity.UNLISTED - {integrity.MANIFEST}:
            kinds[str(name.parent / "*" if name.parent.name == "d" else name)] = path
    return kinds


def cut(path: pathlib.Path) -> None:
    """Leaves the first half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: pathlib.Path) -> None:
    path.write_bytes(b"")


def zero(path: pathlib.Path) -> None:
    """As a machine that lost its power may leave a file: the right size, no content."""
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: pathlib.Path, bit: int | None = None) -> None:
    """Flips one bit, in the middle if none is given."""
    content = bytearray(path.read_bytes())
    bit = 4 * len(content) if bit is None else bit % (8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def remove(path: pathlib.Path) -> None:
    path.unlink()


DAMAGE = {function.__name__: function for function in (cut, empty, zero, flip, remove)}


def copy_of(workdir: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A copy of a run, to be damaged."""
    return shutil.copytree(workdir, folder / "run")


def checkpoint(workdir: pathlib.Path, kind: str, step: int) -> pathlib.Path:
    return workdir / "checkpoints" / kind / str(step)
