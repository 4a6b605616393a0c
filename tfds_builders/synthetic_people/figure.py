"""A clothed person as a picture with an exact mask."""

import dataclasses
import math

import cv2
import numpy as np

from tfds_builders.reid.parts import PARTS
from tfds_builders.synthetic_people import carried, torso, walk
from tfds_builders.synthetic_people.body import Body
from tfds_builders.synthetic_people.canvas import Canvas
from tfds_builders.synthetic_people.head import HeadPainter
from tfds_builders.synthetic_people.outfit import Outfit
from tfds_builders.synthetic_people.view import View


def paint(
    body: Body,
    outfit: Outfit,
    pose: walk.Pose,
    view: View,
    *,
    light: tuple[float, float],
    height: int,
    width: int,
) -> np.ndarray:
    """Paints a person on a transparent canvas.

    Args:
        body: Whose body.
        outfit: What is worn.
        pose: The moment of the walk.
        view: The camera.
        light: Direction (x, y) in the picture from which light comes, length at most 1.
        height: Height of the canvas in pixels.
        width: Its width.

    Returns:
        (height, width, 4) uint8: RGB times alpha, and alpha.
    """
    return _drawn(body, outfit, pose, view, light).paint(height, width)


def _drawn(body: Body, outfit: Outfit, pose: walk.Pose, view: View, light) -> Canvas:
    canvas = Canvas(light)
    joints = view.project(pose.joints)
    for side in (0, 1):
        _leg(canvas, body, outfit, joints, side)
        _arm(canvas, body, outfit, joints, side)
    _trunk(canvas, body, outfit, pose, view)
    HeadPainter(canvas, body, pose, view).draw(outfit)
    carried.draw(canvas, body, outfit, pose, view, joints)
    return canvas


# A part is painted in one of the colours whose channels are all or nothing, which shading keeps
# apart; what is bare is told by its height.
_HAIR, _HAT, _SKIN = (1, 0, 1), (1, 1, 0), (1, 0, 0)
_UPPER, _LOWER, _SHOE, _BAG = (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)
_ATR = {name: label for label, name in enumerate(PARTS["atr"])}


def part_labels(
    body: Body, outfit: Outfit, pose: walk.Pose, view: View, mask: np.ndarray, oversampling: int
) -> np.ndarray:
    """Labels a person's parts.

    Args:
        body: Whose body.
        outfit: What is worn.
        pose: The moment of the walk.
        view: The camera, to a canvas of `oversampling` times the mask's size.
        mask: (height, width) bool, where the person is.
        oversampling: A whole number.

    Returns:
        (height, width) uint8, ATR's labels; 0 where the mask is False.
    """
    colour = {code: 255.0 * np.array(code) for code in (_HAIR, _HAT, _SKIN, _UPPER, _LOWER)}
    upper = colour[_UPPER]
    canvas = _drawn(
        dataclasses.replace(
            body,
            skin=colour[_SKIN],
            hair=dataclasses.replace(body.hair, colour=colour[_HAIR]),
        ),
        dataclasses.replace(
            outfit,
            colour=upper,
            second_colour=upper,
            inner_colour=upper,
            bottom_colour=colour[_LOWER],
            shoe_colour=255.0 * np.array(_SHOE),
            sock_colour=255.0 * np.array(_SHOE),
            carried_colour=255.0 * np.array(_BAG),
            hat_colour=colour[_HAT],
        ),
        pose,
        view,
        (0.0, 0.0),
    )
    height, width = mask.shape
    painted = canvas.paint(oversampling * height, oversampling * width, cv2.LINE_8)
    labels = _labels_of_colours(painted, outfit, view.project(pose.joints))
    # Of the pixels that make up one of the mask, one that is painted; else a neighbour.
    blocks = labels.reshape(height, oversampling, width, oversampling)
    small = blocks.max(axis=(1, 3))
    while (missing := mask & (small == 0)).any():
        small = np.where(missing, cv2.dilate(small, np.ones((3, 3), np.uint8)), small)
    return np.where(mask, small, np.uint8(0))


def _labels_of_colours(painted: np.ndarray, outfit: Outfit, joints: np.ndarray) -> np.ndarray:
    strongest = painted[..., :3].max(axis=-1, keepdims=True)
    channels = (painted[..., :3] > 0.5 * strongest) & (painted[..., 3:] > 0)
    labels = np.zeros(painted.shape[:2], np.uint8)
    dress = outfit.top.kind == "dress"
    parts = {
        _HAIR: "hair",
        _HAT: "hat",
        _UPPER: "dress" if dress else "upper clothes",
        _LOWER: "skirt" if outfit.bottom.skirt else "trousers",
        _SHOE: "left shoe",
        _BAG: "bag",
    }
    for code, part in parts.items():
        labels[(channels == code).all(axis=-1)] = _ATR[part]
    rows = np.arange(len(labels))[:, None]
    bare = (channels == _SKIN).all(axis=-1)
    labels[bare] = _ATR["left arm"]
    labels[bare & (rows < joints[walk.COLLAR, 1])] = _ATR["face"]
    labels[bare & (rows > joints[walk.PELVIS, 1] + 0.25 * np.ptp(joints[:, 1]) / 2)] = _ATR[
        "left leg"
    ]
    return labels


def _cover(points: np.ndarray, radii: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a chain of three joints at a share of its length; returns the upper part."""
    place = 2 * share
    whole = int(min(place, 1))
    rest = place - whole
    end = points[whole] + rest * (points[whole + 1] - points[whole])
    last = radii[whole] + rest * (radii[whole + 1] - radii[whole])
    return np.vstack([points[: whole + 1], end]), np.append(radii[: whole + 1], last)


def _leg(canvas: Canvas, body: Body, outfit: Outfit, joints: np.ndarray, side: int) -> None:
    points = joints[[walk.HIP + side, walk.KNEE + side, walk.ANKLE + side]]
    nearness = points[:, 2].mean() - joints[walk.PELVIS, 2]
    order = -2.0 + 0.5 * math.tanh(4 * nearness)
    scale = points[:, 3]
    ankle_radius = 0.62 * body.calf_radius
    bare = np.array([body.thigh_radius, body.calf_radius * 1.02, ankle_radius]) * scale
    calf = points[1] + 0.32 * (points[2] - points[1])
    shin = np.stack([points[1], calf, points[2]])
    canvas.limb(order, points[:2], bare[:2], body.skin)
    canvas.limb(order, shin, [bare[1], body.calf_radius * 1.1 * scale[1], bare[2]], body.skin)
    _shoe(canvas, body, outfit, joints, side, order)
    bottom = outfit.bottom
    if bottom.skirt or outfit.top.kind == "dress":
        return
    loose = 1 + bottom.ease * np.array([0.5, 1.0, 1.4])
    flare = 1 + bottom.flare * np.array([0.1, 0.5, 1.6])
    cloth, radii = _cover(points, bare * loose * flare, bottom.length)
    canvas.limb(order + 0.01, cloth, radii, outfit.bottom_colour)


def _shoe(canvas, body: Body, outfit: Outfit, joints, side: int, order: float) -> None:
    ankle, heel, toe = (joints[k + side] for k in (walk.ANKLE, walk.HEEL, walk.TOE))
    unit = 0.019 * body.height * ankle[3]
    if outfit.boots:
        knee = joints[walk.KNEE + side]
        shaft = np.stack([ankle + 0.42 * (knee - ankle), ankle])
        canvas.limb(order + 0.005, shaft, [1.75 * unit, 1.5 * unit], outfit.shoe_colour)
    else:
        sock = np.stack([ankle + 0.12 * (joints[walk.KNEE + side] - ankle), ankle])
        canvas.limb(order + 0.002, sock, [1.15 * unit, 1.15 * unit], outfit.sock_colour)
    middle = 0.5 * (heel + toe) - (0, 0.4 * unit, 0, 0)
    sole = np.stack([heel, toe]) + (0, 0.35 * unit, 0, 0)
    canvas.limb(order + 0.006, sole, [0.9 * unit, 0.8 * unit], outfit.shoe_colour * 0.55 + 40)
    canvas.limb(
        order + 0.007,
        np.stack([heel - (0, 0.5 * unit, 0, 0), middle, toe]),
        [1.15 * unit, 1.2 * unit, 0.85 * unit],
        outfit.shoe_colour,
    )


def _arm(canvas: Canvas, body: Body, outfit: Outfit, joints: np.ndarray, side: int) -> None:
    points = joints[[walk.SHOULDER + side, walk.ELBOW + side, walk.WRIST + side]].copy()
    nearness = points[:, 2].mean() - joints[walk.CHEST, 2]
    order = 2.0 if nearness > -0.06 else -2.6
    scale = points[:, 3]
    # The arm hangs below the tip of the shoulder, so that the shoulder slopes into it.
    points[0, 1] += 1.15 * body.arm_radius * (1 + outfit.top.ease) * scale[0]
    elbow_radius = 0.55 * body.arm_radius + 0.45 * body.wrist_radius
    bare = np.array([1.12 * body.arm_radius, elbow_radius, body.wrist_radius]) * scale
    canvas.limb(order, points, bare, body.skin)
    hand = np.stack([points[2], joints[walk.FINGERS + side]])
    palm = 1.12 * body.wrist_radius * scale[2]
    canvas.limb(order + 0.001, hand, [palm, 0.75 * palm], body.skin)
    top = outfit.top
    if top.sleeve == 0:
        return
    radii = bare * (1 + top.ease * np.array([0.8, 1.5, 1.8]) + 0.06)
    if top.sleeve < 1:
        radii = radii * 1.1
    cloth, radii = _cover(points, radii, 0.97 * top.sleeve)
    canvas.limb(order + 0.01, cloth, radii, outfit.colour)


def _trunk(canvas: Canvas, body: Body, outfit: Outfit, pose: walk.Pose, view: View) -> None:
    top, bottom = outfit.top, outfit.bottom
    dress = top.kind == "dress"
    if dress or bottom.skirt:
        colour = outfit.colour if dress else outfit.bottom_colour
        length = top.hem if dress else bottom.length
        cut = top if dress else bottom
        shell = torso.skirt(body, pose, view, length=length, ease=cut.ease, flare=cut.flare)
        canvas.polygon(-0.90, torso.hem(shell, view), colour * 0.62)
        canvas.column(-0.89, shell.silhouette, colour)
    else:
        seat = torso.hips(body, outfit, pose, view)
        canvas.column(-1.0, seat.silhouette, outfit.bottom_colour)
    if top.hem > 0.2 and not dress:
        shell = torso.skirt(body, pose, view, length=top.hem, ease=top.ease, flare=top.flare)
        canvas.polygon(-0.60, torso.hem(shell, view), outfit.colour * 0.6)
        canvas.column(-0.59, shell.silhouette, outfit.colour)
        _opening(canvas, -0.5, shell, outfit.bottom_colour * 0.7, 0.22)
    shell = torso.upper(body, outfit, pose, view)
    canvas.polygon(-0.01, torso.hem(shell, view), outfit.colour * 0.75)
    canvas.column(0.0, shell.silhouette, outfit.colour)
    torso.pattern(canvas, 0.1, shell, outfit)
    if top.open_front:
        _opening(canvas, 0.2, shell, outfit.inner_colour, 0.30)
    else:
        _neckline(canvas, shell, body.skin)
    if top.hood and math.cos(view.yaw) < 0.8:
        _hood(canvas, body, outfit, pose, view)


def _opening(canvas: Canvas, order: float, shell: torso.Shell, colour, reach: float) -> None:
    corners = shell.strip(-reach, reach)
    if corners is not None:
        canvas.polygon(order, corners, colour)


def _neckline(canvas: Canvas, shell: torso.Shell, skin: np.ndarray) -> None:
    corners = shell.part(0.0, 0.10).strip(-0.9, 0.9)
    if corners is not None:
        canvas.polygon(0.3, corners, skin * 0.92)


def _hood(canvas: Canvas, body: Body, outfit: Outfit, pose: walk.Pose, view: View) -> None:
    back = pose.joints[walk.COLLAR] - (0, 0.8 * body.chest_depth, 0.02)
    x, y, _, scale = view.project(back)
    half = 0.5 * body.shoulder_width * scale * max(0.35, abs(math.cos(view.yaw)))
    ends = np.array([[x - half, y], [x + half, y]])
    radius = 0.030 * body.height * scale
    canvas.limb(0.5, ends, [radius, radius], outfit.colour * 0.92)
