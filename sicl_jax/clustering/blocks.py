"""Blocks of rows in threads, each thread with scratch arrays of its own."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np

from sicl_jax.data.files import usable_cores


class Scratch:
    """One thread's arrays of length `size`: two marks, sums, and the list of what was touched."""

    def __init__(self, size: int):
        self.seen = np.full(size, -1, np.int32)
        self.also_seen = np.full(size, -1, np.int32)
        self.sums = np.empty(size, np.float32)
        self.touched = np.empty(size, np.int32)


def map_blocks(
    work: Callable[[int, int, Scratch], object], num_rows: int, block_rows: int
) -> Iterator[object]:
    """Calls `work(first, last, scratch)` on blocks of rows in threads; yields results in order.

    `work` must spend its time in code that releases the GIL.
    """
    firsts = range(0, num_rows, block_rows)
    workers = min(usable_cores(), len(firsts)) or 1
    pool: SimpleQueue[Scratch] = SimpleQueue()
    for _ in range(workers):
        pool.put(Scratch(num_rows))

    def task(first: int):
        scratch = pool.get()
        try:
            return work(first, min(first + block_rows, num_rows), scratch)
        finally:
            pool.put(scratch)

    with ThreadPoolExecutor(workers, thread_name_prefix="clustering") as threads:
        yield from threads.map(task, firsts)
