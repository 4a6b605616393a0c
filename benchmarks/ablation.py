"""What each part of SiCL gives, on the demo's data: a table over seeds and one JSON line.

    python benchmarks/ablation.py --workdir runs/ablation [--seeds 3]

Every run is a workdir of its own and is resumed, not repeated, when the script is run again.
The figure is mAP on changed clothes against all images of camera A, in the last epoch's test.
"""

import argparse
import json
import pathlib

from sicl_jax import config as configs
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.training import loop

PROTOCOL = "cloth_changing/all"
VARIANTS = {
    "rgb_only": ["--config.silhouettes=False"],
    "no_neighbors": ["--config.neighbors.num=0"],
    "full": [],
    "full_paper": ["--config.compat=paper"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS)[:3])
    arguments = parser.parse_args()
    data_dir = arguments.workdir / "data"
    prepare(Request("synthetic_people/demo", data_dir))

    table: dict[str, list[float]] = {"untrained": [], **{name: [] for name in arguments.variants}}
    for seed in range(arguments.seeds):
        for name in arguments.variants:
            folder = arguments.workdir / f"{name}-{seed}"
            changes = [f"--config.data.dir={data_dir}", f"--config.seed={seed}", *VARIANTS[name]]
            config = configs.load("sicl_demo", changes)
            results = loop.train(config, folder, quiet=True, say=_silent)
            table[name].append(results[PROTOCOL].mAP)
            print(f"seed {seed}, {name}: mAP {table[name][-1]:.3f}", flush=True)
        table["untrained"].append(
            _untrained(arguments.workdir / f"{arguments.variants[-1]}-{seed}")
        )

    for name, values in table.items():
        shown = "  ".join(f"{value:.1%}" for value in values)
        print(f"{name:14} {shown}   mean {sum(values) / len(values):.1%}")
    print(json.dumps({"benchmark": "ablation", "protocol": PROTOCOL, "mAP": table}))


def _silent(line: str) -> None:
    """The runs' own lines would hide the table's."""


def _untrained(folder: pathlib.Path) -> float:
    """The figure of the test before training."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return next(line for line in lines if line["kind"] == "test")[PROTOCOL]["mAP"]


if __name__ == "__main__":
    main()
