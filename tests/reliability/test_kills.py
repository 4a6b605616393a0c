"""Runs that are killed, again and again, end as one that never was."""

import concurrent.futures
import os

import pytest
from comparing import assert_same_runs
from trainings import Strikes, Trainer

# SICL_JAX_KILLS=200 for a longer trial.
KILLS = int(os.environ.get("SICL_JAX_KILLS", "20"))
_LANES = 2


def train_under_fire(people, compiled, reference, folder, seed) -> list[str]:
    """Kills runs `KILLS / _LANES` times; gives what they were doing."""
    trainer, strikes = Trainer(people, compiled), Strikes(seed)
    killed, attempt = [], 0
    while len(killed) < KILLS // _LANES:
        attempt += 1
        workdir = folder / f"run{seed}-{attempt}"
        ended = trainer.train(workdir, **strikes.next())
        while ended.code != 0:
            assert ended.code == -9, ended.errors
            killed.append(ended.killed_while)
            strike = strikes.next() if len(killed) < KILLS // _LANES else {}
            ended = trainer.train(workdir, **strike)
        assert_same_runs(workdir, reference)
    trainer.close()
    return killed


def test_killed_at_random_moments(people, compiled, reference, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(_LANES) as pool:
        lanes = [
            pool.submit(train_under_fire, people, compiled, reference, tmp_path, seed)
            for seed in range(_LANES)
        ]
        killed = [work for lane in lanes for work in lane.result()]
    assert len(killed) >= KILLS
    assert {"clustering", "step", "saving", "manifest", "testing", "logging"} <= set(killed)
    print(f"killed {len(killed)} times, while: {', '.join(killed)}")


def test_the_same_seed_gives_the_same_bits_and_another_others(trainer, reference, tmp_path):
    again, other = tmp_path / "again", tmp_path / "other"
    assert trainer.train(again).code == 0
    assert_same_runs(again, reference)
    assert trainer.train(other, settings={"seed": "1"}).code == 0
    with pytest.raises(AssertionError):  # So the comparison can fail.
        assert_same_runs(other, reference)
