"""Checks every golden file of a method's folder, or of all methods' folders."""

import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax

from sicl_jax.errors import UserError, one_line
from sicl_jax.register import METHODS
from sicl_jax.verify.checks import Check
from sicl_jax.verify.files import Golden

GOLDEN = pathlib.Path(__file__).parent / "golden"
_AT_THE_ROOT = "sicl"  # Its files lie in the golden folder itself, those of others in their own.

Checker = Callable[[Golden], Iterable[Check]]


def verify(
    folder: str | os.PathLike[str] | None = None,
    *,
    method: str | None = None,
    allow_missing: bool = False,
    float64: bool = False,
) -> Iterator[Check]:
    """Recomputes everything in a folder of golden files.

    Args:
        folder: Files of the format of the shipped ones, those if None: of the method, or, where
            none is named, SiCL's and a folder for each other method. Sizes, seeds and parameters
            are the files'.
        method: One of `register.METHODS`; all that have checks if None.
        allow_missing: Skip files that are not there.
        float64: Whether to compute models and training steps in float64.

    Yields:
        A verdict per quantity.

    Raises:
        UsageError: There is no such method.
        UserError: The method has no checks; the folder or a file is missing or damaged.
    """
    root = pathlib.Path(GOLDEN if folder is None else folder)
    if method is None:
        methods = [_AT_THE_ROOT, *(name for name in METHODS.names() if name != _AT_THE_ROOT)]
        places = {name: root if name == _AT_THE_ROOT else root / name for name in methods}
    else:
        own_folder = folder is not None or method == _AT_THE_ROOT
        places = {method: root if own_folder else root / method}
    checks = {name: METHODS.get(name, "--method").golden_checks() for name in places}
    if method is not None and not checks[method]:
        raise UserError(f"--method {method}: it comes with no golden numbers to check")
    files = [
        (place / f"{stem}.npz", name, checker)
        for name, place in places.items()
        for stem, checker in checks[name].items()
    ]
    missing = [path for path, *_ in files if not path.is_file()]
    if len(missing) == len(files):
        names = ", ".join(path.name for path in missing)
        raise UserError(f"{root}: holds none of {names}")
    if missing and not allow_missing:
        names = ", ".join(str(path.relative_to(root)) for path in missing)
        raise UserError(f"{root}: lacks {names}; pass --allow_missing to skip them")
    for path, name, checker in files:
        if path not in missing:
            shown = path.name if name == _AT_THE_ROOT else f"{name}/{path.name}"
            yield from verify_file(path, checker, shown=shown, float64=float64)


def verify_file(
    path: pathlib.Path,
    checker: Checker | Mapping[str, Checker],
    *,
    shown: str = "",
    float64: bool = False,
) -> list[Check]:
    """Recomputes one golden file.

    Args:
        path: The file.
        checker: Its checker, or a method's by the stems of their files.
        shown: What verdicts call the file; its name if empty.
        float64: Whether to compute models and training steps in float64.

    Raises:
        UserError: The file is damaged, or its arrays do not fit each other.
    """
    if isinstance(checker, Mapping):
        checker = checker[path.stem]
    golden = Golden(path, shown=shown, float64=float64)
    try:
        with jax.default_matmul_precision("highest"), jax.enable_x64(float64):
            return list(checker(golden))
    except (ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"{path}: cannot be recomputed; are its arrays of the golden format? "
            f"({one_line(error)})"
        ) from error
