"""Files that the Hugging Face hub's tools keep on this machine; nothing here downloads."""

import os
import pathlib

from sicl_jax.errors import UserError


def cached_file(repository: str, file: str, wanted_by: str) -> pathlib.Path:
    """A file of a repository in the Hugging Face cache.

    Args:
        repository: As the hub names it, `owner/name`.
        file: Its name there.
        wanted_by: The config field and value that ask for it, for the error.

    Raises:
        UserError: It is not there; the message is the command that puts it there.
    """
    folder = _cache() / f"models--{repository.replace('/', '--')}"
    revision = folder / "refs" / "main"
    if revision.is_file():
        path = folder / "snapshots" / revision.read_text().strip() / file
        if path.is_file():
            return path
    raise UserError(
        f"{wanted_by}: {repository} is not in the Hugging Face cache; "
        f"fetch it with: pip install 'sicl-jax[hub]' && hf download {repository} {file}"
    )


def _cache() -> pathlib.Path:
    """Where huggingface_hub keeps what it fetched, by the variables that it heeds."""
    if folder := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return pathlib.Path(folder).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", f"{caches}/huggingface")
    return pathlib.Path(home).expanduser() / "hub"
