"""Small trainings in processes that can be killed, limited and signalled."""

import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

_SETTINGS = {
    "data.name": "synthetic_people/tiny",
    "data.image_size": "(32, 16)",
    "model.block": "basic",
    "model.stage_sizes": "(1,)",
    "model.width": "4",
    "model.pretrained": "",
    "augment.pad": "2",
    "clustering.k1": "8",
    "epochs": "4",
    "steps_per_epoch": "4",
    "batch_size": "8",
    "embed_batch_size": "32",
    "evaluate.before": "False",
    "evaluate.every": "2",
    "checkpoint_every_steps": "2",
}


@dataclasses.dataclass
class Ended:
    """How a training ended.

    Attributes:
        code: Exit status; minus the signal's number where one killed it.
        killed_while: What it was doing when the test struck; None where it ended before.
        errors: What it wrote on standard error.
        output: What it wrote on standard output.
    """

    code: int
    killed_while: str | None
    errors: str
    output: str


class Trainer:
    """Trains in children, one at a time.

    Args:
        data_dir: Where the data set was prepared.
        cache: Folder of compiled programs, for all children to share.
        settings: Config fields that differ from those above.
    """

    def __init__(self, data_dir: pathlib.Path, cache: pathlib.Path, **settings):
        self._settings = {"data.dir": str(data_dir), **_SETTINGS, **settings}
        self._process = subprocess.Popen(
            [sys.executable, pathlib.Path(__file__).with_name("training_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {
                "OPENBLAS_NUM_THREADS": "1",  # No thread may run while the server forks.
                "JAX_COMPILATION_CACHE_DIR": str(cache),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            },
        )

    def train(
        self,
        workdir: pathlib.Path,
        *,
        strike: str = "",
        occurrence: int = 1,
        delay: float = 0.0,
        signals: tuple[int, ...] = (signal.SIGKILL,),
        flags: tuple[str, ...] = (),
        settings: dict[str, str] | None = None,
        **order,
    ) -> Ended:
        """Trains until the end, or until it is struck.

        Args:
            workdir: The run's folder.
            strike: What it has to be doing ("step", "clustering", "saving", ...).
            occurrence: For which time since its start.
            delay: Seconds to wait then.
            signals: What it is sent.
            flags: More of the command line.
            settings: More config fields.
            **order: See `training_server.run`.
        """
        log = workdir.with_name(workdir.name + ".log")
        log.write_text("")
        fields = self._settings | (settings or {})
        overrides = [f"--config.{name}={value}" for name, value in fields.items()]
        arguments = ["train", "--config", "sicl_prcc", "--workdir", str(workdir), "--quiet", *flags]
        order |= {"arguments": [*arguments, *overrides], "log": str(log)}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        child = int(self._line().removeprefix("child"))
        struck, output, seen = None, [], 0
        while not (line := self._line()).startswith("ended"):
            if not line.startswith("doing "):
                output.append(line)
                continue
            doing = line.removeprefix("doing ").strip()
            seen += doing == strike
            if strike and seen >= occurrence and struck is None:
                struck = doing
                self._strike(child, delay, signals)
        code = os.waitstatus_to_exitcode(int(line.removeprefix("ended")))
        return Ended(code, struck, log.read_text(), "".join(output))

    def _strike(self, child: int, delay: float, signals: tuple[int, ...]) -> None:
        time.sleep(delay)
        for number in signals:
            try:
                os.kill(child, number)
            except ProcessLookupError:  # It was faster.
                return
            time.sleep(0.3 if len(signals) > 1 else 0)

    def _line(self) -> str:
        line = self._process.stdout.readline()
        assert line, "the training server has died"
        return line

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class Strikes:
    """Random moments at which to strike: each kind of work in turn, and a random delay."""

    _WORK = ("step", "saving", "clustering", "manifest", "testing", "step", "logging")
    _WORK += ("saving best", "restoring", "start")

    def __init__(self, seed: int):
        self._chance = random.Random(seed)
        self._turn = self._chance.randrange(len(self._WORK))

    def next(self) -> dict:
        self._turn += 1
        return {
            "strike": self._WORK[self._turn % len(self._WORK)],
            "delay": self._chance.choice((0, 0.01, 0.03, 0.1)) * self._chance.random(),
        }
