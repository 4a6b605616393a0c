"""Cameras: where they stand, and the place that they look at."""

import dataclasses
import functools
import math

import cv2
import numpy as np

from tfds_builders.synthetic_people import seeds

PANORAMA = 5  # A camera's background is this many pictures wide; a walk passes along it.
# Usual heading, degrees from towards the camera; other cameras stand somewhere between.
_HEADING = {"A": 52.0, "B": 66.0, "C": 58.0}
_HEADING |= {"1": 52.0, "2": 66.0, "3": 58.0, "4": 50.0, "5": 62.0, "6": 55.0}


@dataclasses.dataclass(frozen=True)
class Camera:
    """What is fixed for a camera.

    Attributes:
        heading: Usual heading of those who walk past, radians.
        elevation: How far it looks down, radians.
        distance: Distance to the walk, metres.
        zoom: Scale of people in their crops, about 1.
        light: Direction (x, y) of light in the picture.
        cast: (3,) factors of red, green and blue.
        softness: Factor of the blur, about 1.
    """

    heading: float
    elevation: float
    distance: float
    zoom: float
    light: tuple[float, float]
    cast: np.ndarray
    softness: float


@functools.cache
def camera(seed: int, name: str, light_variation: float) -> Camera:
    """Places a camera."""
    rng = seeds.generator(seed, "camera", name)
    side = rng.choice([-1.0, 1.0])
    heading, elevation = _HEADING.get(name), rng.uniform(0.06, 0.20)
    if heading is None:
        elsewhere = seeds.generator(seed, "elsewhere", name)
        heading, elevation = elsewhere.uniform(40, 78), elsewhere.uniform(0.06, 0.35)
    return Camera(
        heading=math.radians(heading),
        elevation=elevation,
        distance=rng.uniform(5.0, 9.0),
        zoom=rng.uniform(0.98, 1.02),
        light=(side * rng.uniform(0.3, 0.6), -rng.uniform(0.2, 0.5)),
        cast=np.exp(light_variation * rng.uniform(-0.07, 0.07, 3)).astype(np.float32),
        softness=rng.uniform(0.85, 1.25),
    )


@functools.lru_cache(maxsize=16)
def background(seed: int, name: str, height: int, width: int, contrast: float) -> np.ndarray:
    """Paints the place behind a camera's walk.

    Returns:
        (height * 1.1, PANORAMA * width, 3) float32 RGB; a picture shows a part of it.
    """
    rng = seeds.generator(seed, "background", name)
    tall, wide = int(height * 1.1), PANORAMA * width
    horizon = int(tall * rng.uniform(0.56, 0.68))
    wall = rng.uniform(120, 205) + rng.uniform(-13, 13, 3)
    floor = rng.uniform(90, 160) + rng.uniform(-10, 10, 3)
    picture = np.empty((tall, wide, 3), np.float32)
    down = np.linspace(0, 1, tall, dtype=np.float32)[:, None, None]
    picture[:] = wall * (1.08 - 0.22 * down)
    picture[horizon:] = floor * (0.82 + 0.3 * down[horizon:])
    _tile_floor(picture[horizon:], rng, width)
    _furnish_wall(picture[:horizon], rng, width, wall)
    picture[horizon - max(2, tall // 50) : horizon] *= 0.72  # Skirting board.
    soft = cv2.GaussianBlur(picture, (0, 0), height / 90)
    grain = rng.standard_normal((tall // 4, wide // 4)).astype(np.float32)
    soft += 4 * cv2.resize(grain, (wide, tall), interpolation=cv2.INTER_LINEAR)[..., None]
    mean = np.float32(140)
    return np.clip(mean + contrast * (soft - mean), 0, 255)


def _furnish_wall(picture: np.ndarray, rng, width: int, wall: np.ndarray) -> None:
    """Puts doors, windows, posters and pillars along the wall."""
    tall = len(picture)
    extents = {"door": (0.18, 1.0), "window": (0.1, 0.62), "poster": (0.35, 0.65), "pillar": (0, 1)}
    border = max(1, width // 40)
    x = int(rng.uniform(0, 0.5) * width)
    while x < picture.shape[1]:
        kind = str(rng.choice(list(extents)))
        span = int(width * (0.3 if kind == "pillar" else rng.uniform(0.25, 0.9)))
        top, low = (int(part * tall) for part in extents[kind])
        picture[top:low, x : x + span] = 0.75 * wall
        shade = wall * rng.uniform(0.55, 1.25) + rng.uniform(-18, 18, 3)
        picture[top + border : low, x + border : x + span - border] = shade
        x += span + int(width * rng.uniform(0.3, 1.0))


def _tile_floor(picture: np.ndarray, rng, width: int) -> None:
    """Draws the joints of a tiled floor, which meet far above the picture."""
    tall, wide = picture.shape[:2]
    tone = (picture.mean((0, 1)) * rng.uniform(0.8, 1.15)).tolist()
    vanishing = (wide // 2, -2 * tall)
    for x in np.arange(-wide, 2 * wide, 0.9 * width):
        cv2.line(picture, vanishing, (int(x), tall), tone, 1)
    for k in range(1, 6):
        y = int(tall * (k / 5) ** 1.6)
        cv2.line(picture, (0, y), (wide, y), tone, 1)
