"""One process at a time in a folder: a run in its workdir, a change of an index or of data.

The system's own lock on an open file ends with the process that holds it, however that dies, so
that no lock is left behind. The file says who holds it, for the message to the second one; on file
systems without locks that text is all there is.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Callable, Iterator

from sicl_jax.data.files import is_running
from sicl_jax.errors import UserError

LOCK_FILE = ".lock"


@contextlib.contextmanager
def hold(
    folder: pathlib.Path,
    say: Callable[[str], None] = print,
    *,
    flag: str = "--workdir",
    name: str = LOCK_FILE,
) -> Iterator[None]:
    """Holds a folder's lock while the block runs.

    Args:
        folder: Made if it does not exist.
        say: Told when an earlier process ended without giving its lock back.
        flag: Named the folder, for errors.
        name: Of the lock's file in it.

    Raises:
        UserError: Another process holds it; or the folder cannot be written to.
    """
    file = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be written: {error.strerror}; choose another {flag}"
        ) from error
    with os.fdopen(descriptor, "r+") as lock:
        is_free = _lock(lock)
        owner = _owner(lock)
        if is_free is None:
            is_free = owner is None or _is_dead(owner)
        if not is_free:
            raise UserError(
                f"{folder}: in use by {_name(owner)}; wait for it, or choose another {flag}"
            )
        if owner is not None:
            say(f"note: {_name(owner)} had not finished here; its lock was left and is taken over")
        _write(lock, json.dumps({"host": socket.gethostname(), "process": os.getpid()}))
        try:
            yield
        finally:
            _write(lock, "")


def _lock(lock) -> bool | None:
    """Returns whether the lock was free and is now ours; None where there are no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _owner(lock) -> dict | None:
    """Returns what the file says of its owner; None when that gave it back."""
    text = lock.read(1000)
    try:
        owner = json.loads(text or "null")
    except ValueError:
        return {}
    return owner if owner is None or isinstance(owner, dict) else {}


def _is_dead(owner: dict) -> bool:
    process = owner.get("process")
    here = owner.get("host") == socket.gethostname()
    return here and isinstance(process, int) and not is_running(process)


def _name(owner: dict | None) -> str:
    owner = owner or {}
    return f"process {owner.get('process', '(unknown)')} on {owner.get('host', '(unknown host)')}"


def _write(lock, text: str) -> None:
    # A disk that is full must not keep a run from ending: the lock itself needs no room.
    with contextlib.suppress(OSError):
        lock.seek(0)
        lock.truncate()
        lock.write(text)
        lock.flush()
