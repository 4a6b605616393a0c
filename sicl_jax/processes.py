"""Several processes as one run: how they find each other and what they have to agree on.

Each process runs the same program on its own devices. Host work whose result all need (clustering)
is done by the first process alone; the others are given what it found.
"""

import contextlib
import itertools
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from sicl_jax.errors import UsageError, UserError, one_line

# How long a process that ends waits for the others to end as well.
_SECONDS_TO_END = 60
# Set by what starts several processes where JAX finds out the rest by itself.
_TASK_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_KUBERNETES_INDEX = "JOB_COMPLETION_INDEX"
_DAYS_TO_WAIT = 7
_WAITS = itertools.count()


def join(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the run's other processes; to be called before anything touches a device.

    Without arguments the processes of a Slurm step, an Open MPI job or an indexed Kubernetes job
    find each other (`jax.distributed`), and a process that was started alone stays alone.

    Args:
        coordinator: HOST:PORT at which the first process is reached by all.
        num_processes: How many there are.
        process_id: Which one this is, from 0.

    Raises:
        UsageError: Some of the three are missing, or make no sense.
        UserError: The others were not found.
    """
    given = (coordinator, num_processes, process_id)
    if given == (None, None, None):
        if not _started_with_others():
            return
    elif None in given:
        raise UsageError(
            "--coordinator, --num_processes and --process_id belong together: give all three"
        )
    else:
        _check(coordinator, num_processes, process_id)
    try:
        jax.distributed.initialize(
            coordinator, num_processes, process_id, shutdown_timeout_seconds=_SECONDS_TO_END
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"--coordinator {coordinator or '(found by JAX)'}: the processes did not find each "
            f"other ({one_line(error)}); check the address and that all were started"
        ) from error


def _started_with_others() -> bool:
    counts = (int(os.environ.get(name, "1")) for name in _TASK_COUNTS)
    return max(counts) > 1 or _KUBERNETES_INDEX in os.environ


def _check(coordinator: str, num_processes: int, process_id: int) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"--coordinator {coordinator}: give HOST:PORT, such as 10.0.0.1:1234")
    if not 0 <= process_id < num_processes:
        raise UsageError(
            f"--process_id {process_id}: with --num_processes {num_processes} the processes are "
            f"0 to {num_processes - 1}"
        )


def is_first() -> bool:
    """Whether this is the process that clusters, prints, and writes config and logs."""
    return jax.process_index() == 0


def on_first(work: Callable[[], Any], like: Any = None) -> Any:
    """What `work` returns on the first process, handed to all.

    Args:
        work: Called on the first process alone; returns a pytree of host arrays, or None.
        like: Arrays of the same shapes and types, whatever their values.

    Raises:
        UserError: `work` failed; on the first process, whatever it raised.
    """
    if jax.process_count() == 1:
        return work()
    failure = None
    if is_first():
        try:
            like = work()
        except Exception as error:  # Raised below, when the others know of it.
            failure = error
    failed, result = multihost_utils.broadcast_one_to_all((np.asarray(failure is not None), like))
    if failure is not None:
        raise failure
    if failed:
        raise UserError("process 0 failed; its own message says why")
    return result


def on_each(work: Callable[[], np.ndarray], like: np.ndarray) -> np.ndarray:
    """What `work` returns on each process, handed to all; some may take hours longer than others.

    Args:
        work: Called on every process; returns a host array.
        like: An array of the same shape and type, whatever its values.

    Returns:
        (P, ...), a row for each process.

    Raises:
        UserError: `work` failed on another process; on the one where it failed, whatever it raised.
    """
    if jax.process_count() == 1:
        return work()[None]
    failure, found = None, like
    try:
        found = work()
    except Exception as error:  # Raised below, when the others know of it.
        failure = error
    _wait_for_others()
    failed, found = multihost_utils.process_allgather((np.asarray(failure is not None), found))
    if failure is not None:
        raise failure
    if failed.any():
        raise UserError(f"process {failed.argmax()} failed; its own message says why")
    return found


def _wait_for_others() -> None:
    # Hours may pass, and a collective may give up by then.
    from orbax.checkpoint import multihost

    wait = multihost.get_barrier_sync_fn()
    wait(key=f"sicl_jax_{next(_WAITS)}", timeout_ms=_DAYS_TO_WAIT * 24 * 3600 * 1000)


def share(items: Sequence[Any]) -> Sequence[Any]:
    """This process's share of what there is to do: as much as the others', and in order."""
    number, count = jax.process_index(), jax.process_count()
    return items[len(items) * number // count : len(items) * (number + 1) // count]


@contextlib.contextmanager
def held_by_first(hold: Callable[[], contextlib.AbstractContextManager]) -> Iterator[None]:
    """Holds on the first process, while the block runs, what all of them need held once.

    Raises:
        UserError: It could not be held.
    """
    with contextlib.ExitStack() as stack:
        on_first(lambda: stack.enter_context(hold()))
        yield


def require_same(text: str, what: str) -> None:
    """Refuses to go on unless all processes call this with the same text.

    Raises:
        UserError: Another process has another one.
    """
    mine = np.asarray(zlib.crc32(text.encode()), np.uint32)
    digests = np.atleast_1d(multihost_utils.process_allgather(mine))
    others = np.flatnonzero(digests != digests[0])
    if len(others):
        raise UserError(
            f"process {others[0]} has another {what} than process 0; start all with the same"
        )
