"""Trains for long, and tells what has grown: memory of host and devices, threads, open files.

    python benchmarks/soak.py [--minutes 20] [--epochs 200] [--config.FIELD=VALUE]...

Runs of so many epochs on the tiny synthetic people follow one another in one process, each in a
workdir of its own, with a test and a checkpoint every epoch. After every epoch the process is
looked at. Prints one JSON line: each figure at the end of the first run's tenth epoch, when all has
been compiled, and at the end of every run; and how the last run's first and last quarters compare.
"""

import argparse
import gc
import json
import pathlib
import resource
import statistics
import tempfile
import threading
import time

import jax

from sicl_jax import config as configs
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.training import loop

_SETTINGS = (
    "data.name=synthetic_people/tiny",
    "data.image_size=(32, 16)",
    "model.stage_sizes=(1,)",
    "model.width=4",
    "model.pretrained=",
    "augment.pad=2",
    "clustering.k1=8",
    "steps_per_epoch=4",
    "batch_size=8",
    "embed_batch_size=32",
    "evaluate.every=1",
    "checkpoint_every_steps=2",
)
_WARM_EPOCHS = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20, help="start no run after so many")
    parser.add_argument("--epochs", type=int, default=200, help="of a run")
    arguments, overrides = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(soak(pathlib.Path(folder), arguments, overrides)))


def soak(folder: pathlib.Path, arguments, overrides: list[str]) -> dict:
    """Trains until the time is up; the figures of all epochs, summed up."""
    prepare(Request("synthetic_people/tiny", folder / "data"))
    settings = (*_SETTINGS, f"data.dir={folder / 'data'}", f"epochs={arguments.epochs}")
    config = configs.load("sicl_demo", [*(f"--config.{s}" for s in settings), *overrides])
    runs: list[list[dict[str, float]]] = []
    begin = time.monotonic()
    while time.monotonic() - begin < 60 * arguments.minutes:
        seen: list[dict[str, float]] = []
        loop.train(config, folder / f"run{len(runs)}", quiet=True, say=watcher(seen))
        runs.append(seen)
    return report(runs, time.monotonic() - begin)


def watcher(seen: list[dict[str, float]]):
    """What hears a run's lines, and looks at the process whenever an epoch has ended."""

    def hear(line: str) -> None:
        if line.startswith("epoch "):
            seen.append(look())

    return hear


def look() -> dict[str, float]:
    """The process as it is now."""
    gc.collect()  # What only waits to be collected has not leaked.
    arrays = jax.live_arrays()
    device = jax.local_devices()[0].memory_stats() or {}
    return {
        "resident_mb": _resident_bytes() / 1e6,
        "live_arrays": len(arrays),
        "live_arrays_mb": sum(array.nbytes for array in arrays) / 1e6,
        "device_mb": device.get("bytes_in_use", 0) / 1e6,
        "open_files": len(list(pathlib.Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "system_threads": len(list(pathlib.Path("/proc/self/task").iterdir())),
    }


def _resident_bytes() -> int:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def report(runs: list[list[dict[str, float]]], seconds: float) -> dict:
    names = runs[0][0].keys()
    last = runs[-1]
    quarter = max(len(last) // 4, 1)
    return {
        "benchmark": "soak",
        "device": jax.devices()[0].device_kind,
        "minutes": round(seconds / 60, 1),
        "runs": len(runs),
        "epochs": sum(map(len, runs)),
        "warm": _rounded(runs[0][min(_WARM_EPOCHS, len(runs[0])) - 1]),
        "ends_of_runs": {name: [round(run[-1][name], 1) for run in runs] for name in names},
        "last_run_last_quarter_over_first": {
            name: round(_median(last[-quarter:], name) / _median(last[:quarter], name), 4)
            for name in names
            if _median(last[:quarter], name)
        },
        "last_run_resident_kb_per_epoch": round(_slope([s["resident_mb"] for s in last]) * 1e3, 2),
    }


def _median(seen: list[dict[str, float]], name: str) -> float:
    return statistics.median(figures[name] for figures in seen)


def _slope(values: list[float]) -> float:
    return statistics.linear_regression(range(len(values)), values).slope


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in figures.items()}


if __name__ == "__main__":
    main()
