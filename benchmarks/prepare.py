"""Speed of preparing a data set, beside the bare speed of decoding and of copying its files.

    python benchmarks/prepare.py [--images 20000] [--repeats 3]

Two comparisons, each in turns and on the same cores: the scan with decoding every image and mask
once by PIL, and the writing with reading and copying the same files. Starting processes counts
for the product only. The best of the repeats is taken, since other work only ever slows. Beside
the clock's seconds stand those of the processors, which bear a busy machine better.
"""

import argparse
import contextlib
import functools
import io
import json
import os
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
    listed = listing.find(Builder.source, folder / "raw", {"mask": folder / "masks"})
    pairs = [
        (f"{listed.raw}/{image.entry.path}", f"{listed.beside['mask']}/{files['mask'].path}")
        for image, files in listed.images
    ]
    planned = plan.check(listed)
    times = {"decode": [], "scan": [], "copy": [], "write": []}
    for _ in range(repeats):
        times["decode"].append(bare(decode, pairs))
        times["scan"].append(timed(lambda: plan.check(listed)))
        with scratch(folder) as copies:
            times["copy"].append(bare(functools.partial(copy, copies), pairs))
        with scratch(folder) as data_dir:
            builder = Builder(data_dir=data_dir, file_format="array_record")
            builder.plan = planned
            with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints there.
                times["write"].append(timed(builder.download_and_prepare))
    wall, cpu = (
        {name: min(run[kind] for run in runs) for name, runs in times.items()} for kind in (0, 1)
    )
    return {
        "benchmark": "prepare",
        "images": images,
        "cores": workers.usable_cores(),
        **{f"{name}_images_per_second": round(images / wall[name]) for name in wall},
        "scan_over_decode": round(wall["scan"] / wall["decode"], 2),
        "write_over_copy": round(wall["write"] / wall["copy"], 2),
        "cpu_scan_over_decode": round(cpu["scan"] / cpu["decode"], 2),
        "cpu_write_over_copy": round(cpu["write"] / cpu["copy"], 2),
        "seconds_and_cpu_seconds": times,
    }


def write_files(folder: pathlib.Path, images: int) -> None:
    """Writes images as large as PRCC's, a few drawn ones again and again."""
    drawn = [
        studio.develop(PRCC_SIZED, shot)
        for shot, _ in zip(shots(PRCC_SIZED, "train"), range(_DRAWN), strict=False)
    ]
    for number in range(images):
        files = drawn[number % _DRAWN]
        place = f"{number // 100:04d}/{number:06d}"
        for path, data in (
            (f"raw/{place}.jpg", files["image"]),
            (f"masks/{place}.png", files["mask"]),
        ):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)


def decode(pairs: list[tuple[str, str]]) -> None:
    for path in (path for pair in pairs for path in pair):
        with Image.open(path) as image:
            image.load()


def copy(target: pathlib.Path, pairs: list[tuple[str, str]]) -> None:
    for path in (path for pair in pairs for path in pair):
        shutil.copyfile(path, target / path.replace("/", "_"))


def bare(work: Callable, pairs: list[tuple[str, str]]) -> tuple[float, float]:
    """Times `work` on all pairs, in processes that run already."""
    chunks = [pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)]
    with workers.parallel_map(len(pairs)) as run:
        list(run(time.sleep, [0.2] * workers.usable_cores() * 4))
        return timed(lambda: list(run(work, chunks)))


def timed(work: Callable) -> tuple[float, float]:
    """Seconds by the clock, and of the processors in this process and those it started."""
    start, start_cpu = time.perf_counter(), cpu_seconds()
    work()
    return round(time.perf_counter() - start, 2), round(cpu_seconds() - start_cpu, 2)


def cpu_seconds() -> float:
    """User and system seconds of this process and all below it, living or waited for."""
    ticks, pending = 0, [os.getpid()]
    while pending:
        folder = pathlib.Path("/proc", str(pending.pop()))
        with contextlib.suppress(FileNotFoundError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
            for task in (folder / "task").iterdir():
                pending += map(int, (task / "children").read_text().split())
    return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def scratch(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    path = folder / "scratch"
    path.mkdir()
    yield path
    shutil.rmtree(path)


if __name__ == "__main__":
    main()
