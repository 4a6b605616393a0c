"""Trains in children of its own: imports once, forks for each line of JSON on standard input.

A child says on standard output, line by line, what it is about to do ("doing step"), so that a
test can break it right there; then the server says "ended" and the status of `os.waitpid`.
"""

import json
import os
import pathlib
import resource
import sys
import time

import faults
import jaxlib.mlir.dialects.mhlo  # noqa: F401
import orbax.checkpoint  # noqa: F401
import pytest
import sklearn.metrics  # noqa: F401
import tensorflow_datasets  # noqa: F401

import sicl_jax.methods.sicl.method as sicl
from sicl_jax import cli
from sicl_jax.cli import train  # noqa: F401
from sicl_jax.runs import checkpoints, integrity, metrics
from sicl_jax.training import loop, steps, testing

sys.path.append(str(pathlib.Path(__file__).parents[1]))
import programs  # noqa: E402


def tell(line: str) -> None:
    """Says a line in one piece: the server and its child share the pipe."""
    os.write(1, f"{line}\n".encode())


def tell_before(owner, name: str, doing: str, then=None) -> None:
    """Has a function say what it does each time before it does it.

    Args:
        owner: Module or class of the function.
        name: The function's.
        doing: What it does.
        then: Called after that is said.
    """
    function = getattr(owner, name)

    def told(*args, **kwargs):
        tell(f"doing {doing}")
        if then:
            then()
        return function(*args, **kwargs)

    setattr(owner, name, told)


def slow_down(owner, name: str, seconds: float) -> None:
    function = getattr(owner, name)

    def slow(*args, **kwargs):
        time.sleep(seconds)
        return function(*args, **kwargs)

    setattr(owner, name, slow)


def tell_steps(seconds: float, spoilt: dict[str, str]) -> None:
    compile_train_call = steps.compile_train_call

    def compile_and_tell(*args):
        call = compile_train_call(*args)

        def told(state, *sent):
            tell("doing step")
            time.sleep(seconds)
            if where := spoilt.get(str(int(state.clock.step) + 1)):
                state = faults.with_a_nan(state, where)
            return call(state, *sent)

        return told

    steps.compile_train_call = compile_and_tell


def run(order: dict) -> None:
    """Carries out an order.

    It may hold besides the command line's `arguments`: `slow_steps`, `slow_clustering`, seconds;
    `file_limit`, the bytes that a file may have from the first time on that it does
    `file_limit_while`; `spoilt`, parts of the state that get a NaN, by the step before which that
    happens; `spoilt_gradients`, the step that has them; `clusterings`, what is found epoch by
    epoch.
    """

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_limit"],) * 2)

    for owner, name, doing in (
        (loop, "open_dataset", "start"),
        (sicl.Sicl, "begin_epoch", "clustering"),
        (checkpoints.Checkpoints, "restore", "restoring"),
        (checkpoints.Checkpoints, "save", "saving"),
        (checkpoints.Checkpoints, "save_best", "saving best"),
        (integrity, "write_manifest", "manifest"),
        (metrics.MetricsLog, "write", "logging"),
        (metrics._Board, "write", "drawing curves"),
        (testing.Tester, "test", "testing"),
    ):
        is_limited = order.get("file_limit_while") == doing
        tell_before(owner, name, doing, limit_files if is_limited else None)
    if not order.get("spoilt_gradients") and "--debug_nans" not in order["arguments"]:
        programs.share(pytest.MonkeyPatch())
    tell_steps(order.get("slow_steps", 0), order.get("spoilt", {}))
    if order.get("slow_clustering"):
        slow_down(sicl.clustering, "cluster", order["slow_clustering"])
    if order.get("spoilt_gradients"):
        faults.spoil_gradients(order["spoilt_gradients"])
    if order.get("clusterings"):
        faults.find(order["clusterings"])
    cli.main(order["arguments"])


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child:
            tell(f"ended {os.waitpid(child, 0)[1]}")
            continue
        tell(f"child {os.getpid()}")
        log = os.open(pathlib.Path(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 2)
        status = 1
        try:
            run(order)
            status = 0
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(status)


main()
