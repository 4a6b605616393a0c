"""Draws many pictures, on several cores where that pays, always in the same order."""

import concurrent.futures
import functools
import io
import multiprocessing
import os
from collections.abc import Iterable, Iterator

import cv2
from PIL import Image

from tfds_builders.synthetic_people import photograph
from tfds_builders.synthetic_people.world import Shot, World

_QUALITY = 95
_CHUNK = 128
# Below this many megapixels a few seconds of drawing are not worth the start of processes.
_WORTH_PROCESSES = 60.0


def develop(world: World, shot: Shot) -> tuple[bytes, bytes]:
    """Draws one picture; returns it as a JPEG file and its mask as a one-bit PNG file."""
    picture, mask = photograph.take(world, shot)
    _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    png = io.BytesIO()
    Image.fromarray(mask > 0).save(png, format="PNG")
    return jpeg.tobytes(), png.getvalue()


def develop_all(
    world: World, shots: Iterable[Shot], processes: int | None = None
) -> Iterator[tuple[Shot, bytes, bytes]]:
    """Draws pictures in the order of `shots`.

    Args:
      world: Settings of the data set.
      shots: What to draw.
      processes: Number of processes; by default all cores for a large data set, and none but
        this one for a small one. The pictures do not depend on it.

    Yields:
      The shot, its JPEG file and its mask's PNG file.
    """
    shots = list(shots)
    if processes is None:
        megapixels = len(shots) * world.height * world.width / 1e6
        processes = len(os.sched_getaffinity(0)) if megapixels > _WORTH_PROCESSES else 1
    draw = functools.partial(develop, world)
    if processes <= 1:
        for shot in shots:
            yield shot, *draw(shot)
        return
    # Spawned, not forked: the parent may hold the threads of JAX.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        processes, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        for shot, files in zip(shots, pool.map(draw, shots, chunksize=_CHUNK), strict=True):
            yield shot, *files
