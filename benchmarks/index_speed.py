"""Images a second of `sicl-jax index` against the bare encoder on pixels that are ready.

    python benchmarks/index_speed.py --workdir RUN --images DIR

Both take the same images; the encoder alone has them decoded and in memory before it starts.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np

import sicl_jax
from sicl_jax.data.pictures import fitted_pixels, list_images
from sicl_jax.retrieval import build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    model = sicl_jax.load(given.workdir)
    names = list_images(given.images)
    form = model.method.forms["image"]
    pixels = np.stack([fitted_pixels(given.images / name, form) for name in names])
    embedder = model.embedder()

    def bare():
        rest = -len(pixels) % embedder.batch_size  # As many programs as `index` runs.
        filled = np.concatenate([pixels, np.repeat(pixels[-1:], rest, 0)])
        embedder(model.weights, {"image": filled})

    def whole():
        with tempfile.TemporaryDirectory() as folder:
            build.add_folder(model, given.images, pathlib.Path(folder) / "index")

    rates = {"bare": [], "index": []}
    for number in range(given.rounds + 1):
        for name, work in (("bare", bare), ("index", whole)):
            start = time.perf_counter()
            work()
            if number:  # The first round compiles.
                rates[name].append(len(names) / (time.perf_counter() - start))
    bare_rate, index_rate = (float(np.median(rates[name])) for name in ("bare", "index"))
    print(f"{len(names)} images, medians of {given.rounds} rounds, in turns")
    print(f"encoder alone {bare_rate:.0f} images/s, index {index_rate:.0f} images/s")
    print(f"index / encoder: {index_rate / bare_rate:.2f}")


if __name__ == "__main__":
    main()
