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

import orbax.checkpoint  # noqa: F401
import tensorflow_datasets  # noqa: F401

import sicl_jax.methods.sicl as sicl
from sicl_jax import cli
from sicl_jax.cli import train  # noqa: F401
from sicl_jax.training import checkpoints, integrity, logging, loop, steps, testing


def tell(line: str) -> None:
    """Says a line in one piece: the server and its child share the pipe."""
    os.write(1, f"{line}\n".encode())


def tell_before(owner, name: str, doing: str) -> None:
    """Has a function say what it does each time before it does it."""
    function = getattr(owner, name)

    def told(*args, **kwargs):
        tell(f"doing {doing}")
        return function(*args, **kwargs)

    setattr(owner, name, told)


def slow_down(owner, name: str, seconds: float) -> None:
    function = getattr(owner, name)

    def slow(*args, **kwargs):
        time.sleep(seconds)
        return function(*args, **kwargs)

    setattr(owner, name, slow)


def tell_steps(seconds: float) -> None:
    compile_train_call = steps.compile_train_call

    def compile_and_tell(*args):
        call = compile_train_call(*args)

        def told(*sent):
            tell("doing step")
            time.sleep(seconds)
            return call(*sent)

        return told

    steps.compile_train_call = compile_and_tell


def run(order: dict) -> None:
    """Carries out an order: command line, limit on the size of files, seconds to slow down."""
    tell_steps(order.get("slow_steps", 0))
    tell_before(loop, "open_dataset", "start")
    tell_before(sicl.Sicl, "begin_epoch", "clustering")
    tell_before(checkpoints.Checkpoints, "restore", "restoring")
    tell_before(checkpoints.Checkpoints, "save", "saving")
    tell_before(checkpoints.Checkpoints, "save_best", "saving best")
    tell_before(integrity, "write_manifest", "manifest")
    tell_before(logging.MetricsLog, "write", "logging")
    tell_before(testing.Tester, "test", "testing")
    if order.get("slow_clustering"):
        slow_down(sicl.clustering, "cluster", order["slow_clustering"])
    if order.get("file_limit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_limit"],) * 2)
    if order.get("poison_step"):
        poison(order["poison_step"])
    cli.main(order["arguments"])


def poison(step: int) -> None:
    """Has the RGB prototype term take the logarithm of a negative number in one step."""
    import jax.numpy as jnp

    objective = sicl.Sicl._forward

    def spoilt(self, state, *args):
        loss, (features, statistics, terms) = objective(self, state, *args)
        excess = jnp.where(state.step == step - 1, -1.0, 1.0)
        terms["rgb_prototype"] += jnp.log(excess)
        return loss + terms["rgb_prototype"], (features, statistics, terms)

    sicl.Sicl._forward = spoilt


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
