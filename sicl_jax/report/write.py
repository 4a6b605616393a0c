"""Writing a page."""

import pathlib

from sicl_jax.data.files import atomic_file
from sicl_jax.errors import UserError


def write_text(path: pathlib.Path, content: str, flag: str) -> None:
    """Writes a text file whole or not at all.

    Args:
        path: The file.
        content: The text.
        flag: The option that named the file, for the error.

    Raises:
        UserError: It cannot be written.
    """
    try:
        with atomic_file(path) as file:
            file.write(content.encode("utf-8", "replace"))
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be written ({error.strerror})") from error
