"""Keeps orbax and TensorStore from printing what a user cannot act on."""

import functools
import inspect
import logging
import pathlib
import sys
from typing import Any

import orbax.checkpoint

_ORBAX = str(pathlib.Path(orbax.checkpoint.__file__).parent)


@functools.cache
def hush() -> None:
    """Silences log lines about how orbax was called, and tracebacks of abandoned work.

    The first file of a checkpoint that cannot be written or read ends all of it, with an error
    that is told in one line. The work on the other files goes on behind, with nobody to wait for
    it; Python and TensorStore would print a traceback for each of those that fails then.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not _is_abandoned(unraisable):
            before(unraisable)

    sys.unraisablehook = hook


def _is_abandoned(unraisable: Any) -> bool:
    if inspect.iscoroutine(unraisable.object):
        return unraisable.object.cr_code.co_filename.startswith(_ORBAX)
    trace = unraisable.exc_traceback
    return (
        isinstance(unraisable.exc_value, RuntimeError)  # The event loop is closed.
        and unraisable.object is None
        and trace is not None
        and trace.tb_frame.f_code.co_name == "call_soon_threadsafe"
    )
