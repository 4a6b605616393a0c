"""Checks every golden file of a folder."""

import importlib
import os
import pathlib
from collections.abc import Iterator

import jax

from sicl_jax.errors import UserError, one_line
from sicl_jax.verify.checks import Check, Golden

GOLDEN = pathlib.Path(__file__).parent / "golden"
FILES = ("clustering", "memory", "train_steps", "optimizer", "evaluation", "schp")


def verify(
    folder: str | os.PathLike[str] = GOLDEN, *, allow_missing: bool = False
) -> Iterator[Check]:
    """Recomputes everything in a folder of golden files.

    Args:
        folder: Files of the format of the shipped ones; sizes, seeds and parameters are theirs.
        allow_missing: Skip files that are not there.

    Yields:
        A verdict per quantity, in the order of `FILES`.

    Raises:
        UserError: The folder or a file is missing or damaged.
    """
    for name in present(folder, allow_missing=allow_missing):
        yield from verify_file(pathlib.Path(folder) / f"{name}.npz")


def verify_file(path: pathlib.Path) -> list[Check]:
    """The verdicts on one golden file, whose name says which it is.

    Raises:
        UserError: The file is damaged, or its arrays do not fit each other.
    """
    checker = importlib.import_module(f"sicl_jax.verify.{path.stem}")
    try:
        with jax.default_matmul_precision("highest"):
            return list(checker.check(Golden(path)))
    except (ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"{path}: cannot be recomputed; are its arrays of the golden format? "
            f"({one_line(error)})"
        ) from error


def present(folder: str | os.PathLike[str], *, allow_missing: bool) -> list[str]:
    """Names of the golden files in a folder, which has to have one at least.

    Raises:
        UserError: Files are missing and may not be, or all are.
    """
    folder = pathlib.Path(folder)
    missing = [name for name in FILES if not (folder / f"{name}.npz").is_file()]
    if missing and not allow_missing:
        names = ", ".join(f"{name}.npz" for name in missing)
        raise UserError(f"{folder}: lacks {names}; pass --allow_missing to skip them")
    if len(missing) == len(FILES):
        raise UserError(f"{folder}: holds none of {', '.join(f'{name}.npz' for name in FILES)}")
    return [name for name in FILES if name not in missing]
