"""Draws many pictures, on several cores where that pays, always in the same order."""

import functools
import io
from collections.abc import Iterable, Iterator

import cv2
from PIL import Image

from tfds_builders.reid import workers
from tfds_builders.synthetic_people import photograph
from tfds_builders.synthetic_people.world import Shot, World

# Full colour resolution: clothes at 128 x 64 pixels would bleed into each other otherwise.
_JPEG = (
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)
_CHUNK = 64


def develop(world: World, shot: Shot) -> tuple[bytes, bytes]:
    """Draws one picture; returns it as a JPEG file and its mask as a one-bit PNG file."""
    picture, mask = photograph.take(world, shot)
    _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], _JPEG)
    png = io.BytesIO()
    Image.fromarray(mask > 0).save(png, format="PNG")
    return jpeg.tobytes(), png.getvalue()


def develop_all(
    world: World, shots: Iterable[Shot], cores: int | None = None
) -> Iterator[tuple[Shot, bytes, bytes]]:
    """Draws pictures in the order of `shots`, a large number of them in several processes.

    Args:
      world: Settings of the data set.
      shots: What to draw.
      cores: Number of processes, all usable cores if None. The pictures do not depend on it.

    Yields:
      The shot, its JPEG file and its mask's PNG file.
    """
    shots = list(shots)
    chunks = [shots[start : start + _CHUNK] for start in range(0, len(shots), _CHUNK)]
    with workers.parallel_map(len(shots), cores) as run:
        for chunk, files in zip(chunks, run(functools.partial(_draw, world), chunks), strict=True):
            for shot, (image, mask) in zip(chunk, files, strict=True):
                yield shot, image, mask


def _draw(world: World, shots: list[Shot]) -> list[tuple[bytes, bytes]]:
    return [develop(world, shot) for shot in shots]
