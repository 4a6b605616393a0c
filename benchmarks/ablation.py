"""What each part of SiCL gives, on the demo's data: a table over seeds and one JSON line.

    python benchmarks/ablation.py --workdir runs/ablation [--seeds 5] [--variants NAME ...]
        [--config.FIELD=VALUE] ...

Every run is a workdir of its own and is resumed, not repeated, when the script is run again; each
seed of all variants is done before the next, so a table can be had of what is there (`--table`).
Figures are of the last epoch's test, all images of camera A. `less NAME` is a variant's result
less that of the variant `--beside NAME` (full) from the same seed. `+-` is half of the 95 %
confidence interval of the mean over seeds (Student's t). Overrides hold for all variants; with
`--config.data.dir` the data are not drawn but lie there already.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence

import numpy as np
import scipy.stats

from sicl_jax import config as configs
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.errors import UserError
from sicl_jax.runs.metrics import RunLog, read_log
from sicl_jax.runs.workdir import CONFIG_FILE
from sicl_jax.training import loop

VARIANTS = {
    "full": [],
    "no_neighbors": ["--config.neighbors.num=0"],
    "rgb_only": ["--config.silhouettes=False"],
    "refinement": ["--config.clustering.refine=True"],
    "paper": ["--config.compat=paper"],
    # A rate of nothing: the batch norms' running statistics become the place's, no weight moves.
    "statistics_only": ["--config.optimizer.learning_rate=1e-12"],
    "untrained": ["--config.model.pretrained="],
}
_FIGURES = ("rank1", "mAP")
# Of the last epoch's beginning: how good its pseudo-labels and neighbour clusters were.
_LABELS = ("purity", "ari", "neighbors_right", "neighbors_possible")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--beside", choices=VARIANTS, default="full")
    parser.add_argument("--protocol", default="cloth_changing/all", help="whose figures are told")
    parser.add_argument("--table", action="store_true", help="only of the runs that have ended")
    arguments, overrides = parser.parse_known_args()
    if not arguments.table:
        try:
            _run(arguments.workdir, arguments.seeds, arguments.variants, overrides)
        except UserError as error:
            parser.exit(error.exit_code, f"{error}\n")
    runs = {
        name: {
            seed: _figures(log, arguments.protocol)
            for seed in range(arguments.seeds)
            if (log := _ended(arguments.workdir / f"{name}-{seed}"))
        }
        for name in arguments.variants
    }
    print(table(runs, arguments.beside))
    print(json.dumps({"benchmark": "ablation", "protocol": arguments.protocol, "runs": runs}))


def _run(workdir: pathlib.Path, seeds: int, variants: list[str], overrides: list[str]) -> None:
    config = configs.load("sicl_demo", [f"--config.data.dir={workdir / 'data'}", *overrides])
    if config.data.dir == str(workdir / "data"):
        prepare(Request(config.data.name, workdir / "data"))
    for seed in range(seeds):
        for variant in variants:
            changes = [f"--config.data.dir={config.data.dir}", f"--config.seed={seed}"]
            changed = configs.load("sicl_demo", [*overrides, *changes, *VARIANTS[variant]])
            folder = workdir / f"{variant}-{seed}"
            if (log := _ended(folder)) and log.config == changed:
                continue
            loop.train(changed, folder, quiet=True, say=_silent)
            print(f"{variant}, seed {seed}: done", flush=True)


def _silent(line: str) -> None:
    """The runs' own lines would hide the table's."""


def _ended(folder: pathlib.Path) -> RunLog | None:
    """The log of a run that has been trained and tested to its end."""
    if not (folder / CONFIG_FILE).exists():
        return None
    log = read_log(folder)
    return log if log.tests and log.tests[-1]["epoch"] == log.config.epochs else None


def _figures(log: RunLog, protocol: str) -> dict[str, dict[str, float]]:
    """Figures of a run's first and last test and of its last pseudo-labels."""
    first, last = log.tests[0][protocol], log.tests[-1][protocol]
    return {
        "before": {key: first[key] for key in _FIGURES},
        "after": {key: last[key] for key in _FIGURES},
        "labels": {key: log.epochs[-1][key] for key in _LABELS if key in log.epochs[-1]},
    }


def table(runs: dict[str, dict[int, dict[str, dict[str, float]]]], beside: str) -> str:
    """A row for each variant that has runs.

    Args:
        runs: By variant and seed: figures `before`, `after` and of the `labels`.
        beside: The variant that others are compared with, over the seeds that both have.
    """
    titles = ("variant", "seeds", "before: rank-1, mAP", "after: rank-1", "mAP")
    titles += (f"less {beside}: rank-1", "mAP")
    titles += ("purity", "ARI", "right neighbours", "possible")
    rows = [titles, ("---",) * len(titles)]
    other = runs.get(beside, {})
    for name, ended in runs.items():
        if not ended:
            continue
        found = ended.values()
        shared = () if name == beside else ended.keys() & other.keys()
        before = (np.mean([run["before"][key] for run in found]) for key in _FIGURES)
        after = (_cell([run["after"][key] for run in found]) for key in _FIGURES)
        less = (
            _cell([ended[seed]["after"][key] - other[seed]["after"][key] for seed in shared], "+")
            for key in _FIGURES
        )
        labels = (_cell([run["labels"].get(key) for run in found]) for key in _LABELS)
        start = ", ".join(f"{value:.1%}" for value in before)
        rows.append((name, str(len(ended)), start, *after, *less, *labels))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of its 95 % confidence interval; NaN for one value."""
    count = len(values)
    if count < 2:
        return float(np.mean(values)), float("nan")
    half = scipy.stats.t.ppf(0.975, count - 1) * scipy.stats.sem(values)
    return float(np.mean(values)), float(half)


def _cell(values: Sequence[float | None], sign: str = "") -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean, half = mean_and_half(known)
    return f"{mean:{sign}.1%}" + (f" +- {half:.1%}" if np.isfinite(half) else "")


if __name__ == "__main__":
    main()
