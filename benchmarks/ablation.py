"""What each part of SiCL gives, on the demo's data: a table over seeds and one JSON line.

    python benchmarks/ablation.py --workdir runs/ablation [--seeds 5] [--variants NAME ...]

Every run is a workdir of its own and is resumed, not repeated, when the script is run again; each
seed of all variants is done before the next, so a table can be had of what is there (`--table`).
Figures are of the last epoch's test: changed clothes, all images of camera A. `+-` is half of the
95 % confidence interval of the mean over seeds (Student's t).
"""

import argparse
import json
import pathlib

import numpy as np
import scipy.stats

from sicl_jax import config as configs
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.training import loop

PROTOCOL = "cloth_changing/all"
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
_LABELS = ("purity", "ari", "neighbors_right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--table", action="store_true", help="only of the runs that have ended")
    arguments = parser.parse_args()
    if not arguments.table:
        _run(arguments.workdir, arguments.seeds, arguments.variants)
    found = {
        name: [
            figures
            for seed in range(arguments.seeds)
            if (figures := _read(arguments.workdir / f"{name}-{seed}"))
        ]
        for name in arguments.variants
    }
    titles = ("variant", "seeds", "before: rank-1, mAP", "after: rank-1", "mAP", "purity", "right")
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    for name, rows in found.items():
        if rows:
            before = [_mean([row["before"][key] for row in rows]) for key in _FIGURES]
            after = [_interval([row["after"][key] for row in rows]) for key in _FIGURES]
            purity, _, right = (_mean([row["labels"].get(key) for row in rows]) for key in _LABELS)
            cells = (len(rows), ", ".join(before), *after, purity, right)
            print(f"| {name} | {' | '.join(map(str, cells))} |")
    print(json.dumps({"benchmark": "ablation", "protocol": PROTOCOL, "runs": found}))


def _run(workdir: pathlib.Path, seeds: int, variants: list[str]) -> None:
    data_dir = workdir / "data"
    name = configs.load("sicl_demo").data.name
    prepare(Request(name, data_dir))
    for seed in range(seeds):
        for variant in variants:
            changes = [f"--config.data.dir={data_dir}", f"--config.seed={seed}"]
            config = configs.load("sicl_demo", [*changes, *VARIANTS[variant]])
            result = loop.train(config, workdir / f"{variant}-{seed}", quiet=True, say=_silent)
            figures = result[PROTOCOL]
            shown = f"rank-1 {figures.rank1:.1%}, mAP {figures.mAP:.1%}"
            print(f"seed {seed}, {variant}: {shown}", flush=True)


def _silent(line: str) -> None:
    """The runs' own lines would hide the table's."""


def _read(folder: pathlib.Path) -> dict[str, dict[str, float]] | None:
    """Figures of a run's first and last test and of its last pseudo-labels; None if it goes on."""
    if not (folder / "metrics.jsonl").exists():
        return None
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    tests = [line for line in lines if line["kind"] == "test"]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    last = json.loads((folder / "config.json").read_text())["epochs"]
    if not tests or tests[-1]["epoch"] != last:
        return None
    before, after = (
        {key: test[PROTOCOL][key] for key in _FIGURES} for test in (tests[0], tests[-1])
    )
    labels = {key: epochs[-1][key] for key in _LABELS if key in epochs[-1]}
    return {"before": before, "after": after, "labels": labels}


def _mean(values: list[float | None]) -> str:
    values = [value for value in values if value is not None]
    return f"{np.mean(values):.1%}" if values else "-"


def _interval(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.1%}"
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.1%} +- {half:.1%}"


if __name__ == "__main__":
    main()
