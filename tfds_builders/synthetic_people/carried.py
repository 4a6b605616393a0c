"""Bags."""

import math

import numpy as np

from tfds_builders.synthetic_people import walk
from tfds_builders.synthetic_people.body import Body
from tfds_builders.synthetic_people.canvas import Canvas
from tfds_builders.synthetic_people.outfit import Outfit
from tfds_builders.synthetic_people.view import View


def arm_in_use(outfit: Outfit) -> int | None:
    """Returns the side of the arm that holds a bag and so hardly swings, or None."""
    return outfit.carried_side if outfit.carried == "tote" else None


def draw(
    canvas: Canvas, body: Body, outfit: Outfit, pose: walk.Pose, view: View, joints: np.ndarray
) -> None:
    """Draws what the outfit carries."""
    if outfit.carried == "backpack":
        _backpack(canvas, body, outfit, pose, view)
    elif outfit.carried == "shoulder bag":
        _shoulder_bag(canvas, body, outfit, pose, view)
    elif outfit.carried == "tote":
        _tote(canvas, outfit, joints, view)


def _box(canvas: Canvas, order: float, x, y, half_width, half_height, colour) -> None:
    """Draws a soft box around (x, y)."""
    down = np.array([-1.0, -0.82, -0.55, 0.8, 0.95, 1.0])
    wide = np.array([0.62, 0.88, 0.96, 1.0, 0.94, 0.80])
    sections = np.stack([np.full(6, x), y + down * half_height, wide * half_width], -1)
    canvas.column(order, sections, colour)


def _strap(canvas: Canvas, order: float, points: np.ndarray, width: float, colour) -> None:
    canvas.limb(order, points, [width] * len(points), colour)


def _backpack(canvas: Canvas, body: Body, outfit: Outfit, pose: walk.Pose, view: View) -> None:
    size, colour = outfit.carried_size, outfit.carried_colour
    thick = 0.075 * size
    back = pose.joints[walk.CHEST] - (0, body.chest_depth + 0.8 * thick, 0.0)
    x, y, _, scale = view.project(back)
    half = math.hypot(0.145 * size * math.cos(view.yaw), thick * math.sin(view.yaw))
    away = math.cos(view.yaw) < -0.1
    _box(canvas, 1.3 if away else -2.3, x, y, half * scale, 0.22 * size * scale, colour)
    if away:
        _box(canvas, 1.35, x, y + 0.07 * scale, 0.7 * half * scale, 0.07 * scale, colour * 0.8)
        return
    for side in (1, -1):
        shoulder = pose.joints[walk.COLLAR] * 0.4 + 0.6 * pose.joints[walk.SHOULDER]
        top = np.array([side * 0.6 * body.shoulder_width, 0.35 * body.chest_depth, shoulder[2]])
        top[1] += pose.joints[walk.COLLAR, 1]
        low = pose.joints[walk.WAIST] + (side * 0.9 * body.chest_width, 0.2 * body.chest_depth, 0)
        ends = view.project(np.stack([top, low]))
        if ends[:, 2].mean() > pose.joints[walk.CHEST, 1] * math.cos(view.yaw) - 0.02:
            _strap(canvas, 1.1, ends, 0.014 * scale, colour * 0.9)


def _shoulder_bag(canvas: Canvas, body: Body, outfit: Outfit, pose: walk.Pose, view: View) -> None:
    size, colour = outfit.carried_size, outfit.carried_colour
    sign = 1 - 2 * outfit.carried_side
    hang = pose.joints[walk.PELVIS] + (sign * (body.hip_width + 0.05), -0.03, 0.02)
    x, y, near, scale = view.project(hang)
    half = math.hypot(0.05 * size * math.cos(view.yaw), 0.13 * size * math.sin(view.yaw))
    order = 2.2 if near > -0.03 else -2.7
    _box(canvas, order, x, y, half * scale, 0.105 * size * scale, colour)
    other = pose.joints[walk.SHOULDER + 1 - outfit.carried_side].copy()
    other[0] *= 0.55
    other += (0, body.chest_depth * 0.6 * (1 if math.cos(view.yaw) > 0 else -1), 0.06)
    ends = np.stack([view.project(other), view.project(hang + (0, 0, 0.08))])
    _strap(canvas, 1.15, ends, 0.011 * scale, colour * 0.85)


def _tote(canvas: Canvas, outfit: Outfit, joints: np.ndarray, view: View) -> None:
    size, colour = outfit.carried_size, outfit.carried_colour
    x, y, near, scale = joints[walk.FINGERS + outfit.carried_side]
    half = math.hypot(0.06 * size * math.cos(view.yaw), 0.15 * size * math.sin(view.yaw)) * scale
    order = 2.3 if near > joints[walk.CHEST, 2] - 0.06 else -2.5
    drop = 0.17 * size * scale
    ends = np.array([[x, y], [x, y + 0.6 * drop]])
    _strap(canvas, order, ends, 0.012 * scale, colour * 0.8)
    _box(canvas, order + 0.01, x, y + 1.35 * drop, half, 0.8 * drop, colour)
