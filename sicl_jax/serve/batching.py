"""Features of concurrent requests, computed together."""

import dataclasses
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

_SECONDS_TO_GATHER = 0.004


@dataclasses.dataclass(frozen=True, eq=False)
class _Asked:
    row: dict
    answer: Future


class Batcher:
    """One thread that embeds what all requests ask for, as many at a time as there are.

    While a batch is computed, requests gather for the next one.

    Args:
        embed: From columns, each a list of N cells, to features (N, D).
        most: Rows in a batch.

    Attributes:
        batches: Sizes of the last batches, for `/api/health` and tests.
    """

    def __init__(self, embed: Callable[[dict[str, list]], np.ndarray], most: int = 32):
        self._embed = embed
        self._most = most
        self._queue: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self.batches: list[int] = []
        self._thread = threading.Thread(target=self._work, name="embed", daemon=True)
        self._thread.start()

    def __call__(self, row: dict) -> np.ndarray:
        """The feature (D,) of one row of columns; waits for it."""
        answer: Future = Future()
        self._queue.put(_Asked(row, answer))
        return answer.result()

    def close(self) -> None:
        """Ends the thread after what has been asked."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, goes_on = self._gather(first)
            self.batches = [*self.batches[-99:], len(batch)]
            try:
                columns = {name: [asked.row[name] for asked in batch] for name in first.row}
                features = self._embed(columns)
                for asked, feature in zip(batch, features, strict=True):
                    asked.answer.set_result(feature)
            except Exception as error:  # Raised again in the requests.
                for asked in batch:
                    if not asked.answer.done():
                        asked.answer.set_exception(error)
            if not goes_on:
                return

    def _gather(self, first: _Asked) -> tuple[list[_Asked], bool]:
        batch = [first]
        while len(batch) < self._most:
            try:
                asked = self._queue.get(timeout=_SECONDS_TO_GATHER)
            except queue.Empty:
                break
            if asked is None:
                return batch, False
            batch.append(asked)
        return batch, True
