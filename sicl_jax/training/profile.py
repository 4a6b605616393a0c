"""A trace of some training calls, to be read with Perfetto or TensorBoard's profile page."""

import contextlib
import pathlib

import jax

_CALLS_BEFORE = 2  # The first one compiles, and the second finds everything in place.
_CALLS = 2


class Profile(contextlib.AbstractContextManager):
    """Traces a few calls of a run, once it is under way.

    Args:
        folder: Where to write the trace; None for no trace.
    """

    def __init__(self, folder: pathlib.Path | None):
        self._folder = folder
        self._calls = 0

    def next_call(self) -> None:
        """To be told before each call."""
        if self._folder is None:
            return
        if self._calls == _CALLS_BEFORE:
            jax.profiler.start_trace(str(self._folder))
        if self._calls == _CALLS_BEFORE + _CALLS:
            self._stop()
        self._calls += 1

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._folder = None

    def __exit__(self, *_):
        if self._folder is not None and self._calls > _CALLS_BEFORE:
            self._stop()
