"""How long work tells how far it is, without knowing who listens."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol


class Bar(Protocol):
    """The progress of one task."""

    def advance(self, amount: int = 1) -> None:
        """Counts `amount` more units done."""


MakeBar = Callable[[int, str], AbstractContextManager[Bar]]
"""Takes a number of units and a description; `sicl_jax.console.progress` is one."""


class _Silence:
    def advance(self, amount: int = 1) -> None:
        """Tells nobody."""


@contextlib.contextmanager
def silent(total: int, description: str) -> Iterator[Bar]:  # noqa: ARG001 - the others' signature.
    """A bar that nobody sees."""
    yield _Silence()
