"""What all commands share in talking to a person: one console and one kind of progress bar."""

import contextlib
import datetime
import sys
import time
from collections.abc import Iterator

import rich.console
import rich.progress

console = rich.console.Console(stderr=True)


def counted(count: int, name: str) -> str:
    """A number of things: `1 image`, `2 images`."""
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


class Progress:
    """A task's progress: a bar on a terminal, a plain line every few seconds elsewhere.

    Use `progress(...)` to make one.
    """

    def __init__(self, total: int | None, description: str, bar=None, task=None):
        self._total = total
        self._description = description
        self._bar = bar
        self._task = task
        self._done = 0
        self._start = self._last_line = time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Counts `amount` more units done; `note` is shown behind the bar (a loss, say)."""
        self._done += amount
        if self._bar is not None:
            self._bar.update(self._task, advance=amount, note=note)
        elif self._description and time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            of = f"/{self._total}" if self._total else ""
            words = [f"{self._description}: {self._done}{of}", note, self._left()]
            print(" ".join(filter(None, words)), file=sys.stderr)

    def _left(self) -> str:
        """How long it will take, in words; nothing where that is unknown."""
        if not self._total or not self._done:
            return ""
        seconds = (time.monotonic() - self._start) / self._done * (self._total - self._done)
        return f"({datetime.timedelta(seconds=round(seconds))} left)"


_SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def progress(total: int | None, description: str, *, quiet: bool = False) -> Iterator[Progress]:
    """Shows the progress of `total` units (None: unknown) while the block runs."""
    if quiet:
        yield Progress(total, "")
        return
    if not console.is_terminal:
        yield Progress(total, description)
        return
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn("{task.fields[note]}"),
    )
    with rich.progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total, note="")
        yield Progress(total, description, bar, task)
