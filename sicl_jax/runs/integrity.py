"""Whether a folder still holds what was written: a manifest of its files' sizes and digests.

Orbax checks the indexes of its files but not every byte of them, so each checkpoint carries a
manifest; it is compared before anything is read.
"""

import hashlib
import json
import os
import pathlib

MANIFEST = "manifest.json"
# Orbax writes these two after the manifest: times and names, nothing of the run.
UNLISTED = frozenset({MANIFEST, "_CHECKPOINT_METADATA", "commit_success.txt"})


def write_manifest(folder: pathlib.Path) -> None:
    """Lists all files of a folder in a file in it.

    Raises:
        OSError: The disk is full, for one.
    """
    listed = {name: [path.stat().st_size, _digest(path)] for name, path in _files(folder).items()}
    with (folder / MANIFEST).open("w") as file:
        json.dump(listed, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def find_damage(folder: pathlib.Path) -> str | None:
    """What is wrong with a folder, or None where every byte is as its manifest says."""
    try:
        listed = json.loads((folder / MANIFEST).read_bytes())
        wanted = {str(name): (int(size), str(digest)) for name, (size, digest) in listed.items()}
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return f"{MANIFEST} is damaged"
    files = _files(folder)
    if not files:
        return "it is empty"
    if unlisted := files.keys() - wanted.keys():
        return f"{MANIFEST} does not list {min(unlisted)}"
    for name, (size, digest) in wanted.items():
        if name not in files:
            return f"{name} is missing"
        try:
            if files[name].stat().st_size != size:
                return f"{name} has {files[name].stat().st_size} of {size} bytes"
            if _digest(files[name]) != digest:
                return f"{name} has other bytes than were written"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror or error}"
    return None


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Listed files of a folder by relative path, in order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path for path in paths if path.name not in UNLISTED}


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
