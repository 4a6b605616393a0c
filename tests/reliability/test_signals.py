"""Ctrl-C and SIGTERM: a checkpoint and a line; the second one at once."""

import signal
import threading

import pytest
from comparing import assert_same_runs, metrics

from sicl_jax.training.signals import StopRequest

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.mark.parametrize(
    ("number", "strike", "occurrence"),
    [
        (signal.SIGTERM, "step", 9),
        (signal.SIGINT, "step", 6),
        (signal.SIGTERM, "clustering", 1),
        (signal.SIGINT, "testing", 1),
        (signal.SIGTERM, "restoring", 1),
    ],
)
def test_stops_with_a_checkpoint_and_goes_on(
    trainer, reference, tmp_path, number, strike, occurrence
):
    workdir = tmp_path / "run"
    ended = trainer.train(workdir, strike=strike, occurrence=occurrence, signals=(number,))
    name = signal.Signals(number).name
    assert ended.code == CODES[number]
    (line,) = ended.errors.splitlines()
    assert line.startswith(f"sicl-jax: stopped by {name} in epoch ")
    assert line.endswith("; run the same command to go on")
    assert f"{name}: saving after the current call" in ended.output
    assert list((workdir / "checkpoints/latest").iterdir())

    ended = trainer.train(workdir)
    assert ended.code == 0, ended.errors
    assert "resumed in epoch" in ended.output
    assert_same_runs(workdir, reference)


def test_stops_between_two_steps_of_an_epoch(trainer, reference, tmp_path):
    """Without `checkpoint_every_steps` too, and nothing done is done again."""
    workdir, settings = tmp_path / "run", {"checkpoint_every_steps": "0"}
    ended = trainer.train(
        workdir, strike="step", occurrence=10, signals=(signal.SIGTERM,), settings=settings
    )
    assert "in epoch 2, after step 10;" in ended.errors
    ended = trainer.train(workdir, strike="step", occurrence=999, settings=settings)
    assert ended.code == 0
    assert "resumed in epoch 2, after step 10" in ended.output
    assert metrics(workdir)[1:] == metrics(reference)[1:]


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
