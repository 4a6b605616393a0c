"""Takes a picture: a person in front of a background, through a camera."""

import dataclasses
import functools
import math

import cv2
import numpy as np

from tfds_builders.synthetic_people import body as bodies
from tfds_builders.synthetic_people import carried, figure, infrared, outfit, scene, seeds, walk
from tfds_builders.synthetic_people.head import head_place
from tfds_builders.synthetic_people.view import View
from tfds_builders.synthetic_people.world import Shot, World

_OVERSAMPLING = 2
_FILL = 0.865  # Share of the crop's height that a person of the reference height fills.
FACE = 64
"""Side of a restored face in pixels."""
_LOOKS_AWAY = -0.2  # Cosine of the heading below which no face is seen.
_STEP = 0.62  # Phase of the walk from one image to the next, radians.


@dataclasses.dataclass(frozen=True)
class _Pass:
    """One walk past a camera."""

    yaw: float
    phase: float
    start: float
    drift: float
    brightness: float
    cast: np.ndarray


@functools.lru_cache(maxsize=8)
def _person(world: World, identity: int) -> bodies.Body:
    return bodies.sample(
        world.seed,
        identity,
        variation=world.body_variation,
        complexion=world.complexion_variation,
    )


@functools.lru_cache(maxsize=8)
def _outfit(world: World, identity: int, number: int) -> outfit.Outfit:
    return outfit.sample(
        world.seed,
        identity,
        number,
        frame=_person(world, identity).frame,
        looseness=world.garment_looseness,
        carry_probability=world.carry_probability,
    )


@functools.lru_cache(maxsize=8)
def _walk_past(world: World, split: str, identity: int, camera: str, number: int) -> _Pass:
    rng = seeds.generator(world.seed, "pass", split, identity, camera, number)
    spread = math.radians(world.view_spread)
    heading = scene.camera(world.seed, camera, world.light_variation).heading
    heading += spread * rng.uniform(-1, 1)
    if rng.random() < world.away_share:
        heading = math.pi - heading
    side = rng.choice([-1.0, 1.0])
    light = world.light_variation
    return _Pass(
        yaw=side * heading,
        phase=rng.uniform(0, 2 * math.pi),
        start=rng.uniform(0, 1),
        drift=side * math.sin(heading) * rng.uniform(0.10, 0.16),
        brightness=math.exp(0.10 * light * rng.uniform(-1, 1)),
        cast=np.exp(0.03 * light * rng.uniform(-1, 1, 3)).astype(np.float32),
    )


@functools.cache
def _grain(seed: int, height: int, width: int) -> np.ndarray:
    """Returns a sheet of noise with standard deviation 1, larger than a picture."""
    rng = seeds.generator(seed, "grain")
    return rng.standard_normal((2 * height, 2 * width, 3), dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class _Moment:
    """Who is seen how, before anything is painted; sizes are those of the oversampled canvas."""

    body: bodies.Body
    clothes: outfit.Outfit
    pose: walk.Pose
    view: View
    past: _Pass
    step: int
    light: tuple[float, float]
    rng: np.random.Generator

    def paint(self, view: View, height: int, width: int) -> np.ndarray:
        """Paints the person alone: (height, width, 4) uint8, colour times alpha and alpha."""
        return figure.paint(
            self.body, self.clothes, self.pose, view, light=self.light, height=height, width=width
        )


def take(world: World, shot: Shot) -> tuple[np.ndarray, np.ndarray]:
    """Takes one picture.

    Args:
        world: Settings of the data set.
        shot: Which picture.

    Returns:
        (height, width, 3) uint8 RGB, and the mask: (height, width) uint8, 255 on the person,
        clothes and carried things included, where it covers half of a pixel or more.
    """
    moment = _moment(world, shot)
    large = moment.paint(moment.view, *_canvas(world))
    small = cv2.resize(large, (world.width, world.height), interpolation=cv2.INTER_AREA)
    person = small.astype(np.float32)
    alpha = person[..., 3:] * np.float32(1 / 255)
    mask = np.where(person[..., 3] >= 127.5, np.uint8(255), np.uint8(0))
    ground = _ground(world, shot, moment)
    picture = person[..., :3] + ground * (1 - alpha)
    return _expose(world, shot, moment, picture), mask


@dataclasses.dataclass(frozen=True)
class Portrait:
    """What is cut out of a picture for methods that know of faces and parts.

    Attributes:
        parts: (height, width) uint8, ATR's labels where the mask is 255.
        face: (h, w, 3) uint8, the head as it is in the picture; None if it looks away.
        face_restored: (`FACE`, `FACE`, 3) uint8, the same at a higher resolution, without noise.
    """

    parts: np.ndarray
    face: np.ndarray | None
    face_restored: np.ndarray | None


def portray(world: World, shot: Shot, picture: np.ndarray, mask: np.ndarray) -> Portrait:
    """Cuts out of a picture, as `take` gave it and its mask, what a parser and a detector would."""
    moment = _moment(world, shot)
    parts = figure.part_labels(
        moment.body, moment.clothes, moment.pose, moment.view, mask > 0, _OVERSAMPLING
    )
    if math.cos(moment.view.yaw) < _LOOKS_AWAY:
        return Portrait(parts, None, None)
    x, y, half = head_place(moment.body, moment.pose, moment.view)
    half *= 1.15
    left, top = (int(round(max(0.0, edge) / _OVERSAMPLING)) for edge in (x - half, y - half))
    right, bottom = (int(round((edge + half) / _OVERSAMPLING)) for edge in (x, y))
    face = picture[top:bottom, left:right]
    zoom = _OVERSAMPLING * FACE / (2 * half)
    near = dataclasses.replace(
        moment.view,
        pixels_per_metre=zoom * moment.view.pixels_per_metre,
        centre=tuple(
            zoom * (c - start)
            for c, start in zip(moment.view.centre, (x - half, y - half), strict=True)
        ),
    )
    large = moment.paint(near, _OVERSAMPLING * FACE, _OVERSAMPLING * FACE)
    small = cv2.resize(large, (FACE, FACE), interpolation=cv2.INTER_AREA).astype(np.float32)
    wall = cv2.resize(face, (FACE, FACE), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    wall = cv2.GaussianBlur(wall, (0, 0), FACE / 8)
    restored = small[..., :3] + wall * (1 - small[..., 3:] * np.float32(1 / 255))
    return Portrait(parts, face, np.clip(restored + 0.5, 0, 255).astype(np.uint8))


def _canvas(world: World) -> tuple[int, int]:
    return _OVERSAMPLING * world.height, _OVERSAMPLING * world.width


def _moment(world: World, shot: Shot) -> _Moment:
    key = (shot.split, shot.identity, shot.camera, shot.number)
    rng = seeds.generator(world.seed, "image", *key)
    walk_number, step = divmod(shot.number, world.images_per_pass)
    past = _walk_past(world, shot.split, shot.identity, shot.camera, walk_number)
    camera = scene.camera(world.seed, shot.camera, world.light_variation)
    person = _person(world, shot.identity)
    clothes = _outfit(world, shot.identity, shot.outfit)
    wobble = world.pose_variation * rng.standard_normal(4)
    pose = walk.pose(
        person,
        past.phase + _STEP * step + 0.12 * wobble[0],
        effort=1 + 0.06 * wobble[1],
        lean=0.02 * wobble[2],
        carrying=carried.arm_in_use(clothes),
    )
    jitter = 1 + world.crop_jitter * rng.standard_normal(3)
    tall = person.height / bodies.REFERENCE_HEIGHT
    fill = _FILL * camera.zoom * jitter[0] * tall**world.height_visibility
    height, width = _canvas(world)
    visible = pose.joints[[walk.TOE, walk.TOE + 1, walk.HEEL, walk.HEEL + 1, walk.CROWN]]
    off_centre = 0.5 * (visible[:, 1].max() + visible[:, 1].min()) * math.sin(past.yaw)
    scale = fill * height / person.height
    view = View(
        yaw=past.yaw + 0.03 * wobble[3],
        elevation=camera.elevation,
        distance=camera.distance,
        pixels_per_metre=scale,
        centre=(width / 2 * jitter[1] - 0.7 * off_centre * scale, height / 2 * jitter[2]),
        middle=person.height / 2,
    )
    if shot.camera in world.infrared_cameras:
        person, clothes = infrared.body(person), infrared.outfit(world.seed, shot, clothes)
    return _Moment(person, clothes, pose, view, past, step, camera.light, rng)


def _ground(world: World, shot: Shot, moment: _Moment) -> np.ndarray:
    """Returns the background (height, width, 3) float32 with the person's shadow."""
    height, width = world.height, world.width
    sheet = scene.background(world.seed, shot.camera, height, width, world.background_contrast)
    room = sheet.shape[1] - width
    place = (moment.past.start + moment.past.drift * moment.step) % 2
    left = int(room * (place if place <= 1 else 2 - place))
    top = int((sheet.shape[0] - height) * moment.rng.uniform(0, 1))
    ground = sheet[top : top + height, left : left + width].copy()
    if shot.camera in world.infrared_cameras:
        ground = infrared.ground(ground)
    foot = moment.view.project(np.zeros(3))[:2] / _OVERSAMPLING
    shadow = np.ones((height, width), np.float32)
    axes = (int(16 * 0.30 * width), int(16 * 0.022 * height))
    centre = (int(16 * foot[0]), int(16 * foot[1]))
    cv2.ellipse(shadow, centre, axes, 0, 0, 360, 0.62, -1, cv2.LINE_8, 4)
    ground *= cv2.GaussianBlur(shadow, (0, 0), height / 64)[..., None]
    return ground


def _expose(world: World, shot: Shot, moment: _Moment, picture: np.ndarray) -> np.ndarray:
    """Applies light, blur and noise to (height, width, 3) float32 and returns uint8."""
    rng, past = moment.rng, moment.past
    camera = scene.camera(world.seed, shot.camera, world.light_variation)
    height, width = picture.shape[:2]
    flicker = math.exp(0.03 * world.light_variation * rng.standard_normal())
    light = np.asarray(world.light, np.float32)
    picture *= light * camera.cast * past.cast * np.float32(past.brightness * flicker)
    is_infrared = shot.camera in world.infrared_cameras
    noise = world.noise * (infrared.NOISE if is_infrared else 1)
    sigma = world.blur * camera.softness * height / 128 * rng.uniform(0.7, 1.3)
    if sigma > 0.05:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    grain = _grain(world.seed, height, width)
    top, left = rng.integers(height), rng.integers(width)
    picture += np.float32(noise) * grain[top : top + height, left : left + width]
    if is_infrared:
        picture[...] = picture[..., :1]  # Light and noise have no colour.
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)
