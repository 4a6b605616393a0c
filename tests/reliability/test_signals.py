"""Ctrl-C and SIGTERM: a checkpoint and a line; the second one at once."""

import re
import signal
import threading

import pytest
from comparing import assert_same_runs, steps

from sicl_jax.training.signals import StopRequest

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def test_stops_with_a_checkpoint_and_goes_on(trainer, reference, tmp_path):
    """Stopped during each kind of work, without any checkpoint of its own within epochs."""
    workdir, settings = tmp_path / "run", {"checkpoint_every_steps": "0"}
    positions = []
    for number, strike, occurrence in (
        (signal.SIGTERM, "restoring", 1),
        (signal.SIGINT, "step", 3),
        (signal.SIGTERM, "clustering", 1),
        (signal.SIGINT, "testing", 1),
        (signal.SIGTERM, "step", 4),
    ):
        ended = trainer.train(
            workdir,
            strike=strike,
            occurrence=occurrence,
            signals=(number,),
            settings=settings,
            slow_steps=0.3,  # So that the signal comes within the step.
        )
        name = signal.Signals(number).name
        assert ended.code == CODES[number]
        (line,) = ended.errors.splitlines()
        found = re.fullmatch(
            rf"sicl-jax: stopped by {name} in epoch (\d), after step (\d+); "
            "run the same command to go on",
            line,
        )
        positions.append(tuple(map(int, found.groups())))
        assert f"{name}: saving after the current call; once more to stop at once" in ended.output
        assert steps(workdir, "latest")[-1] == positions[-1][1]

    assert positions == [(1, 0), (1, 3), (2, 4), (2, 8), (3, 12)]
    ended = trainer.train(workdir)
    assert ended.code == 0, ended.errors
    assert "resumed in epoch 3, after step 12" in ended.output
    assert_same_runs(workdir, reference)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_stops_at_once(trainer, tmp_path, second):
    """While the main thread is busy for a minute, as it may be in a clustering."""
    ended = trainer.train(
        tmp_path / "run",
        strike="clustering",
        signals=(signal.SIGINT, second),
        slow_clustering=60.0,
    )
    assert ended.code == CODES[second]
    assert "Traceback" not in ended.errors


def test_no_handlers_are_left(capsys):
    before = [signal.getsignal(number) for number in CODES]
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        while not stop.number():
            pass
    assert [signal.getsignal(number) for number in CODES] == before
    assert "SIGTERM: saving" in capsys.readouterr().out


def test_other_threads_may_train():
    """Python lets the main thread alone handle signals."""
    errors = []

    def use():
        try:
            with StopRequest() as stop:
                assert stop.number() == 0
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert errors == []
