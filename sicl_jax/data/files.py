"""Files that appear whole or not at all."""

import contextlib
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import BinaryIO

from sicl_jax.errors import UserError
from tfds_builders.reid.workers import usable_cores as usable_cores


@contextlib.contextmanager
def atomic_file(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Opens a binary file for writing that takes its name at the end of the block.

    If the block raises, nothing is left; if the process is killed, a temporary file is left that
    the next writer of the same path removes.

    Raises:
        OSError: The file cannot be written, the disk being full for one.
    """
    _remove_abandoned(path)
    temporary = path.with_name(f".{path.name}.{_owner(os.getpid())}.tmp")
    try:
        with temporary.open("w+b") as draft:
            yield draft
            draft.flush()
            os.fsync(draft.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: pathlib.Path, content: bytes, shown: str = "") -> None:
    """Writes a file whole or not at all; folders above it are made.

    Args:
        path: The file.
        content: Of it.
        shown: What the error calls it; its path if empty.

    Raises:
        UserError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(content)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{shown or path}: cannot be written: {reason}") from error


def _owner(pid: int) -> str:
    return f"{socket.gethostname()}-{pid}"


def _remove_abandoned(path: pathlib.Path) -> None:
    """Removes temporary files of processes of this machine that no longer run."""
    for left in path.parent.glob(f".{path.name}.{socket.gethostname()}-*.tmp"):
        pid = left.name.removesuffix(".tmp").rpartition("-")[2]
        if pid.isdecimal() and not is_running(int(pid)):
            left.unlink(missing_ok=True)


def is_running(pid: int) -> bool:
    """Returns whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
