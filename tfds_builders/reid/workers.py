"""Work on many files in all cores, by processes: the files are small and Python's share is large.

Small jobs run in the calling process. For large ones the usual rule of `multiprocessing` holds: a
script that calls this does so below `if __name__ == "__main__":`.
"""

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence

from tfds_builders.reid.problems import RawDataError

_WORTH_PROCESSES = 3000
"""Starting processes takes as long as the work on about so many images."""

Map = Callable[[Callable, Sequence], Iterator]


def usable_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def parallel_map(images: int, cores: int | None = None) -> Iterator[Map]:
    """Gives a `map(function, items)` that runs in as many processes as pay off.

    Args:
        images: How many images are to be worked on, which decides about processes.
        cores: Number of processes; all usable cores if None.

    Raises:
        RawDataError: A process died.
    """
    cores = cores or usable_cores()
    if cores == 1 or images < _WORTH_PROCESSES:
        yield map
        return
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(["tfds_builders.reid.plan", "tfds_builders.reid.write"])
    pool = concurrent.futures.ProcessPoolExecutor(cores, context, initializer=_obey_parent)
    try:
        yield pool.map
    except concurrent.futures.process.BrokenProcessPool as error:
        raise RawDataError("a worker process died (out of memory?); run again") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _obey_parent() -> None:
    """Leaves Ctrl-C to the parent, and ends when the parent does.

    A worker waits for work on a pipe that its siblings hold open too, so without this it would
    wait for ever after its parent was killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
