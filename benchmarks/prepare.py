"""Speed of preparing a data set, beside the bare speed of decoding and of copying its files.

    python benchmarks/prepare.py [--images 20000] [--repeats 3]

Two comparisons, each in turns and on the same cores: the scan with decoding every image and mask
once by PIL, and the writing with reading and copying the same files. Starting processes counts
for the product only. The best of the repeats is taken, since other work only ever slows.
"""

import argparse
import contextlib
import functools
import io
import json
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator

from PIL import Image

from tfds_builders.person_folder.person_folder_dataset_builder import Builder
from tfds_builders.reid import listing, plan, workers
from tfds_builders.synthetic_people import studio
from tfds_builders.synthetic_people.synthetic_people_dataset_builder import PRCC_SIZED
from tfds_builders.synthetic_people.world import shots

_DRAWN = 200
_CHUNK = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(pathlib.Path(folder), arguments.images, arguments.repeats)
    print(json.dumps(result))


def measure(folder: pathlib.Path, images: int, repeats: int) -> dict:
    write_files(folder, images)
    listed = listing.find(Builder.source, folder / "raw", folder / "masks")
    pairs = [
        (f"{listed.raw}/{image.entry.path}", f"{listed.masks}/{mask.path}")
        for image, mask in listed.pairs
    ]
    planned = plan.check(listed)
    seconds = {"decode": [], "scan": [], "copy": [], "write": []}
    for _ in range(repeats):
        seconds["decode"].append(bare(decode, pairs))
        seconds["scan"].append(timed(lambda: plan.check(listed)))
        with scratch(folder) as copies:
            seconds["copy"].append(bare(functools.partial(copy, copies), pairs))
        with scratch(folder) as data_dir:
            builder = Builder(data_dir=data_dir, file_format="array_record")
            builder.plan = planned
            with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints there.
                seconds["write"].append(timed(builder.download_and_prepare))
    best = {name: min(times) for name, times in seconds.items()}
    return {
        "benchmark": "prepare",
        "images": images,
        "cores": workers.usable_cores(),
        **{f"{name}_images_per_second": round(images / best[name]) for name in best},
        "scan_over_decode": round(best["scan"] / best["decode"], 2),
        "write_over_copy": round(best["write"] / best["copy"], 2),
        "seconds": {name: [round(t, 2) for t in times] for name, times in seconds.items()},
    }


def write_files(folder: pathlib.Path, images: int) -> None:
    """Writes images as large as PRCC's, a few drawn ones again and again."""
    drawn = [
        studio.develop(PRCC_SIZED, shot)
        for shot, _ in zip(shots(PRCC_SIZED, "train"), range(_DRAWN), strict=False)
    ]
    for number in range(images):
        image, mask = drawn[number % _DRAWN]
        place = f"{number // 100:04d}/{number:06d}"
        for path, data in ((f"raw/{place}.jpg", image), (f"masks/{place}.png", mask)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)


def decode(pairs: list[tuple[str, str]]) -> None:
    for path in (path for pair in pairs for path in pair):
        with Image.open(path) as image:
            image.load()


def copy(target: pathlib.Path, pairs: list[tuple[str, str]]) -> None:
    for path in (path for pair in pairs for path in pair):
        shutil.copyfile(path, target / path.replace("/", "_"))


def bare(work: Callable, pairs: list[tuple[str, str]]) -> float:
    """Seconds of `work` on all pairs, in processes that run already."""
    chunks = [pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)]
    with workers.parallel_map(len(pairs)) as run:
        list(run(time.sleep, [0.2] * workers.usable_cores() * 4))
        return timed(lambda: list(run(work, chunks)))


def timed(work: Callable) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextlib.contextmanager
def scratch(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    path = folder / "scratch"
    path.mkdir()
    yield path
    shutil.rmtree(path)


if __name__ == "__main__":
    main()
