"""Images a second of `sicl-jax index` against the bare encoder on pixels that are ready.

    python benchmarks/index_speed.py --workdir RUN --images DIR

In turns, over the same images (each of them `--copies` times, so that what is done once a run
weighs no more than in a large one): the encoder alone, with all pixels decoded and in memory;
reading, decoding and resizing alone, by as many threads as `index` has; and `index`. On CPUs all
three share the same cores, so where the encoder leaves none idle the first two bound the third:
1 / (1 / encoder + 1 / pixels). Rates are by the clock, and by the processor time of all threads,
which other programs change less. Prints a JSON line.
"""

import argparse
import functools
import json
import pathlib
import shutil
import tempfile
import time

import numpy as np

import sicl_jax
from sicl_jax.data.files import usable_cores
from sicl_jax.data.pictures import decoded_batches, fitted_pixels, list_images
from sicl_jax.retrieval import build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--copies", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.copies):
            shutil.copytree(given.images, f"{folder}/{number}")
        measure(given.workdir, pathlib.Path(folder), given.rounds)


def measure(workdir: str, images: pathlib.Path, rounds: int) -> None:
    model = sicl_jax.load(workdir)
    names = list_images(images)
    form = model.method.forms["image"]
    pixels = np.stack([fitted_pixels(images / name, form) for name in names])
    embedder = model.embedder()

    def bare():
        rest = -len(pixels) % embedder.batch_size  # As many programs as `index` runs.
        filled = np.concatenate([pixels, np.repeat(pixels[-1:], rest, 0)])
        embedder(model.weights, {"image": filled})

    def ready():
        read = functools.partial(fitted_pixels, form=form)
        for _ in decoded_batches([[images / n for n in names]], [read], embedder.batch_size):
            pass

    def whole():
        with tempfile.TemporaryDirectory() as folder:
            build.add_folder(model, images, pathlib.Path(folder) / "index")

    seconds = {"encoder": [], "pixels": [], "index": []}
    for number in range(rounds + 1):
        for name, work in zip(seconds, (bare, ready, whole), strict=True):
            start = time.perf_counter(), time.process_time()
            work()
            if number:  # The first round compiles.
                end = time.perf_counter(), time.process_time()
                seconds[name].append(np.subtract(end, start))
    told = {"images": len(names), "rounds": rounds, "cores": usable_cores()}
    for clock, by in enumerate(("clock", "processor")):
        took = {name: float(np.median(runs, 0)[clock]) for name, runs in seconds.items()}
        told[by] = {f"{name} images/s": round(len(names) / s, 1) for name, s in took.items()}
        told[by]["index / encoder"] = round(took["encoder"] / took["index"], 3)
        bound = took["encoder"] / (took["encoder"] + took["pixels"])
        told[by]["bound of index / encoder"] = round(bound, 3)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
