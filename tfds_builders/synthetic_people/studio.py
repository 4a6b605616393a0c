"""Draws many pictures, on several cores where that pays, always in the same order."""

import functools
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from tfds_builders.reid import workers
from tfds_builders.reid.features import encode_png
from tfds_builders.reid.parts import encode_parts
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


def develop(world: World, shot: Shot) -> dict[str, bytes]:
    """Draws one picture.

    Returns:
        Files by the columns of `reid.features.make_example`: `image`, a JPEG; `mask`, a one-bit
        PNG; of a world with parts a palette PNG and, unless the person looks away, `face` and
        `face_restored`.
    """
    picture, mask = photograph.take(world, shot)
    if not world.parts:
        return {"image": _jpeg(picture), "mask": encode_png(mask > 0)}
    portrait = photograph.portray(world, shot, picture, mask)
    files = {"image": _jpeg(picture), "mask": encode_parts(portrait.parts, "atr")}
    if portrait.face is not None:
        files["face"] = encode_png(portrait.face)
        files["face_restored"] = _jpeg(portrait.face_restored)
    return files


def _jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture[..., ::-1], _JPEG)[1].tobytes()


def develop_all(
    world: World, shots: Iterable[Shot], cores: int | None = None
) -> Iterator[tuple[Shot, dict[str, bytes]]]:
    """Draws pictures in the order of `shots`, a large number of them in several processes.

    Args:
        world: Settings of the data set.
        shots: What to draw.
        cores: Number of processes, all usable cores if None. The pictures do not depend on it.

    Yields:
        The shot and its files, see `develop`.
    """
    shots = list(shots)
    chunks = [shots[start : start + _CHUNK] for start in range(0, len(shots), _CHUNK)]
    with workers.parallel_map(len(shots), cores) as run:
        for chunk, files in zip(chunks, run(functools.partial(_draw, world), chunks), strict=True):
            yield from zip(chunk, files, strict=True)


def _draw(world: World, shots: list[Shot]) -> list[dict[str, bytes]]:
    return [develop(world, shot) for shot in shots]
