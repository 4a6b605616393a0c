"""A tree of images through a parser and into a tree of masks, with the device kept busy.

Threads decode and warp images some batches ahead, the device parses one batch while the last one
is fetched, and the same threads encode and write the masks.
"""

import collections
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from sicl_jax import devices
from sicl_jax.data.pictures import open_picture
from sicl_jax.errors import UserError
from sicl_jax.masks import extractor
from tfds_builders.reid.tree import IMAGE_SUFFIXES

_BATCHES_AHEAD = 3


class Task(NamedTuple):
    """An image and the mask to be made of it."""

    image: Path
    mask: Path


class Segment(Protocol):
    """A parser for network inputs of one size."""

    input_size: int

    def __call__(self, inputs: UInt8[np.ndarray, "b s s 3"]) -> Float[Array, "b n n k"]:
        """Logits of inputs in blue, green, red; may return before the device has finished."""


class _Loaded(NamedTuple):
    task: Task
    network_input: UInt8[np.ndarray, "s s 3"]
    height: int
    width: int


def list_tasks(input_dir: Path, output_dir: Path, names: Iterable[str] | None = None) -> list[Task]:
    """Pairs images with the masks to be made of them.

    Args:
        input_dir: Tree of images.
        output_dir: Tree of masks with the same relative paths, `.png`.
        names: The images' relative paths; None: all of the tree in the order of their paths, but
            for hidden ones and, where it lies in the tree, `output_dir`.

    Raises:
        UserError: No images, two images whose masks would have one name, or both folders the same.
    """
    if not input_dir.is_dir():
        raise UserError(f"{input_dir}: is not a folder; give the folder of the images")
    if output_dir.resolve() == input_dir.resolve():
        raise UserError(f"{output_dir}: holds the images; choose another folder for the masks")
    if names is None:
        names = _image_names(input_dir, output_dir.resolve())
    tasks: dict[Path, Task] = {}
    for name in names:
        task = Task(input_dir / name, (output_dir / name).with_suffix(".png"))
        other = tasks.setdefault(task.mask, task)
        if other is not task:
            raise UserError(
                f"{task.image}: its mask would have the name of {other.image.name}'s; "
                "rename one of the images"
            )
    if not tasks:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{input_dir}: holds no images ({suffixes})")
    return list(tasks.values())


def _image_names(input_dir: Path, output_dir: Path) -> Iterator[str]:
    for folder, subfolders, files in os.walk(input_dir):
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and Path(folder, name).resolve() != output_dir
        )
        for name in sorted(files):
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES:
                yield path.relative_to(input_dir).as_posix()


def run_tasks(
    tasks: Sequence[Task],
    segment: Segment,
    *,
    encode: Callable[[np.ndarray], bytes],
    batch_size: int,
    threads: int,
    on_done: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Makes the mask of each task.

    Args:
        tasks: What to do; images may be of any sizes.
        segment: The parser; it sees batches of one size only.
        encode: Makes a file of classes (h, w) uint8, 0 background.
        batch_size: Rounded up to a multiple of the number of devices.
        threads: Threads that decode and encode.
        on_done: Called with the number of masks that were written since the last call.

    Returns:
        A line on each image that cannot be read; its mask is not made.

    Raises:
        UserError: A mask cannot be written.
    """
    batch_size = devices.padded_rows(batch_size)
    failures: list[str] = []
    on_device: collections.deque[tuple[list[_Loaded], jax.Array]] = collections.deque()
    writes: collections.deque[list[Future]] = collections.deque()

    def finish_batch():
        loaded, classes = on_device.popleft()
        host_classes = devices.fetch(classes)
        writes.append(
            [
                pool.submit(
                    _write, item.task.mask, host_classes[i, : item.height, : item.width], encode
                )
                for i, item in enumerate(loaded)
            ]
        )

    def finish_writes():
        batch = writes.popleft()
        for write in batch:
            write.result()
        on_done(len(batch))

    pool = ThreadPoolExecutor(threads)
    try:
        for loaded in _load_ahead(pool, tasks, segment.input_size, batch_size, failures):
            on_device.append((loaded, _start(loaded, segment, batch_size)))
            if len(on_device) > 1:
                finish_batch()
            if len(writes) > 1:
                finish_writes()
        while on_device:
            finish_batch()
        while writes:
            finish_writes()
    finally:
        pool.shutdown(cancel_futures=True)
    return failures


def _load_ahead(
    pool: ThreadPoolExecutor,
    tasks: Sequence[Task],
    input_size: int,
    batch_size: int,
    failures: list[str],
) -> Iterator[list[_Loaded]]:
    """Yields batches in order, decoded some batches ahead; what cannot be read is left out."""
    starts = iter(range(0, len(tasks), batch_size))
    ahead: collections.deque[list[Future]] = collections.deque()

    def submit():
        for start in itertools.islice(starts, 1):
            batch = tasks[start : start + batch_size]
            ahead.append([pool.submit(_load, task, input_size) for task in batch])

    for _ in range(_BATCHES_AHEAD):
        submit()
    while ahead:
        loaded = []
        for future in ahead.popleft():
            try:
                loaded.append(future.result())
            except UserError as error:
                failures.append(str(error))
        submit()
        if loaded:
            yield loaded


def _load(task: Task, input_size: int) -> _Loaded:
    pixels = open_picture(task.image)[..., ::-1]
    height, width = pixels.shape[:2]
    return _Loaded(task, extractor.network_input(pixels, input_size), height, width)


def _start(loaded: list[_Loaded], segment: Segment, batch_size: int) -> jax.Array:
    """Starts a batch on the device: (B, H, W) classes, each image's in its upper left corner."""
    inputs = np.zeros((batch_size, *loaded[0].network_input.shape), np.uint8)
    for i, item in enumerate(loaded):
        inputs[i] = item.network_input
    logits = segment(inputs)
    size = logits.shape[1]
    height = extractor.padded_size(max(item.height for item in loaded))
    width = extractor.padded_size(max(item.width for item in loaded))
    rows = np.zeros((batch_size, height, size), np.float32)
    columns = np.zeros((batch_size, width, size), np.float32)
    for i, item in enumerate(loaded):
        rows[i, : item.height], columns[i, : item.width] = extractor.way_back(
            item.height, item.width, size, segment.input_size
        )
    return extractor.classes_at_image_size(
        logits, devices.put_rows(rows), devices.put_rows(columns)
    )


def _write(
    path: Path, classes: UInt8[np.ndarray, "h w"], encode: Callable[[np.ndarray], bytes]
) -> None:
    """Writes a mask under a temporary name, then renames it: it appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(encode(classes))
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
