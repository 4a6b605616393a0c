"""Masks from files to files, against the parser alone on inputs that lie on the device.

    python benchmarks/masks.py                      # a GPU if there is one
    python benchmarks/masks.py --images 8 --input_size 256

Prints one JSON line: images per second of both and their ratio. The weights are drawn at random,
which costs the same time as trained ones.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from PIL import Image

from sicl_jax import devices
from sicl_jax.masks import predict, schp, walk
from sicl_jax.masks.quality import default_threads

NUM_CLASSES = 20


def draw_images(folder: Path, count: int) -> None:
    """Writes photograph-like JPEG crops of the sizes that PRCC and LTCC have."""
    random = np.random.default_rng(0)
    for i in range(count):
        height = int(random.integers(160, 420))
        width = int(height * random.uniform(0.35, 0.6))
        coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image.save(folder / f"{i:06d}.jpg", quality=90)


def seconds_of_parser(segment: predict.SchpSegment, batch_size: int, count: int) -> float:
    """Seconds an image of the parser alone; it must be compiled."""
    size = segment.input_size
    inputs = devices.put_rows(np.full((batch_size, size, size, 3), 127, np.uint8))
    steps = -(-count // batch_size)
    start = time.perf_counter()
    for _ in range(steps):
        result = segment.parse_resident(inputs)
    result.block_until_ready()
    return (time.perf_counter() - start) / (steps * batch_size)


def seconds_of_walk(segment, images: Path, masks: Path, **options) -> float:
    """Seconds an image from files to files; all programs must be compiled."""
    tasks = walk.list_tasks(images, masks)
    start = time.perf_counter()
    failures = walk.run_tasks(tasks, segment, mode="parsing", **options)
    seconds = time.perf_counter() - start
    assert not failures, failures
    return seconds / len(tasks)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=None, help="default: 12, or 4096 on a GPU")
    parser.add_argument("--input_size", type=int, default=473)
    parser.add_argument("--batch_size", type=int, default=predict.default_batch_size())
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    args = parser.parse_args()
    count = args.images or (12 if jax.default_backend() == "cpu" else 4096)
    batch_size = devices.padded_rows(args.batch_size)

    dtype = devices.compute_dtype(args.dtype)
    network = schp.Parser(NUM_CLASSES, dtype=dtype, rngs=nnx.Rngs(0))
    network = nnx.merge(*_replicated(nnx.split(network)))
    segment = predict.SchpSegment(network, args.input_size)
    options = {"batch_size": batch_size, "threads": args.threads}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        images.mkdir()
        draw_images(images, count)
        seconds_of_walk(segment, images, Path(folder, "compile"), **options)
        # Network, walk, walk, network: a machine that slows down slows both alike.
        alone = [seconds_of_parser(segment, batch_size, count)]
        whole = [seconds_of_walk(segment, images, Path(folder, str(i)), **options) for i in (0, 1)]
        alone.append(seconds_of_parser(segment, batch_size, count))
    alone, whole = np.mean(alone), np.mean(whole)
    line = {
        "benchmark": "masks",
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "dtype": np.dtype(dtype).name,
        "input_size": args.input_size,
        "batch_size": batch_size,
        "threads": args.threads,
        "images": count,
        "images_per_second": round(1 / whole, 3),
        "parser_alone_images_per_second": round(1 / alone, 3),
        "ratio": round(alone / whole, 3),
    }
    print(json.dumps(line))


def _replicated(split):
    graph, state = split
    return graph, devices.put_replicated(state)


if __name__ == "__main__":
    main()
