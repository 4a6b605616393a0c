"""The trunk and what is worn on it: garments as stacks of ellipses that any heading can see."""

import dataclasses
import math

import numpy as np

from tfds_builders.synthetic_people import walk
from tfds_builders.synthetic_people.body import Body
from tfds_builders.synthetic_people.canvas import Canvas, smooth
from tfds_builders.synthetic_people.outfit import Outfit
from tfds_builders.synthetic_people.view import View


@dataclasses.dataclass(frozen=True)
class Shell:
    """A garment around the trunk, seen by a camera.

    `rows` (S, 5) from top to bottom: x and y of the middle in pixels, half the width along the
    body's left axis, half the depth along its forward axis (pixels), turn of the section
    (radians, heading included).
    """

    rows: np.ndarray

    @property
    def silhouette(self) -> np.ndarray:
        """(S, 3): x, y, half of the visible width."""
        x, y, width, depth, turn = self.rows.T
        return np.stack([x, y, np.hypot(width * np.cos(turn), depth * np.sin(turn))], -1)

    def part(self, start: float, stop: float) -> "Shell":
        """Cuts out the rows between two shares of the height."""
        places = np.linspace(0, 1, len(self.rows))
        wanted = np.linspace(start, stop, 6)
        return Shell(np.stack([np.interp(wanted, places, c) for c in self.rows.T], -1))

    def strip(self, start: float, stop: float) -> np.ndarray | None:
        """Outlines the visible part between two angles around the body.

        Args:
            start: Angle in radians: 0 is the front, pi / 2 the body's left.
            stop: The other angle, more than `start`.

        Returns:
            (2 S, 2) corners, or None where the strip is out of sight.
        """
        x, y, width, depth, turn = self.rows.T
        half = np.hypot(width * np.cos(turn), depth * np.sin(turn))
        edge = np.arctan2(width * np.cos(turn), depth * np.sin(turn))
        # Seen angles lie between edge - pi and edge; x is middle + half * cos(angle - edge).
        middle = (0.5 * (start + stop) - edge + np.pi / 2 + np.pi) % (2 * np.pi) - np.pi
        reach = 0.5 * (stop - start)
        low = np.clip(middle - reach, -np.pi / 2, np.pi / 2)
        high = np.clip(middle + reach, -np.pi / 2, np.pi / 2)
        if (high - low).max() < 0.02:
            return None
        left = np.stack([x + half * np.sin(low), y], -1)
        right = np.stack([x + half * np.sin(high), y], -1)
        return np.concatenate([left, right[::-1]])


def _shell(sections: list[tuple], view: View, twist: float, top: float, bottom: float) -> Shell:
    """Projects sections (left, forward, up, width, depth) of the trunk; the twist fades down."""
    array = smooth(np.array(sections))
    seen = view.project(array[:, :3])
    share = np.clip((array[:, 2] - bottom) / (top - bottom), 0, 1)
    turn = view.yaw - twist * share
    rows = [seen[:, 0], seen[:, 1], array[:, 3] * seen[:, 3], array[:, 4] * seen[:, 3], turn]
    return Shell(np.stack(rows, -1))


def upper(body: Body, outfit: Outfit, pose: walk.Pose, view: View) -> Shell:
    """Shapes the upper garment from the shoulders to its hem, or to the hips for long ones."""
    top = outfit.top
    pelvis, waist, chest, collar = pose.joints[: walk.CROWN]
    ease = 1 + top.ease
    hem = pelvis - (0, 0, min(top.hem, 0.12) * body.leg)
    shoulders = 0.5 * (pose.joints[walk.SHOULDER] + pose.joints[walk.SHOULDER + 1])
    belly = np.array([0, 0.6 * body.belly, 0])
    bust = np.array([0, 0.10 * (1 - body.frame) * body.chest_depth, 0])
    seat = np.array([0, 0.14 * body.hip_depth, 0])
    sections = [
        (*collar, 0.40 * body.shoulder_width, 0.60 * body.chest_depth),
        (*(0.55 * collar + 0.45 * shoulders), 0.72 * body.shoulder_width, 0.76 * body.chest_depth),
        (*shoulders, 1.0 * body.shoulder_width, 0.92 * body.chest_depth * ease),
        (*(chest + bust), body.chest_width * ease, body.chest_depth * ease),
        (*(waist + belly), body.waist_width * ease, (body.waist_depth + body.belly) * ease),
        (*(pelvis - seat), body.hip_width * ease, body.hip_depth * ease),
        (*(hem - seat), body.hip_width * ease * 0.99, body.hip_depth * ease),
    ]
    return _shell(sections, view, pose.twist, shoulders[2], pelvis[2])


def hips(body: Body, outfit: Outfit, pose: walk.Pose, view: View) -> Shell:
    """Shapes the seat of the lower garment, down to where the legs part."""
    pelvis, waist = pose.joints[walk.PELVIS], pose.joints[walk.WAIST]
    ease = 1 + 0.4 * outfit.bottom.ease
    width, depth = body.hip_width * ease, body.hip_depth * ease
    sections = [
        (*waist, body.waist_width, body.waist_depth),
        (*pelvis, width, depth),
        (*(pelvis - (0, 0, 0.10 * body.leg)), 0.96 * width, 0.94 * depth),
        (*(pelvis - (0, 0, 0.17 * body.leg)), 0.72 * width, 0.72 * depth),
    ]
    return _shell(sections, view, 0.0, waist[2], pelvis[2])


def skirt(
    body: Body, pose: walk.Pose, view: View, *, length: float, ease: float, flare: float
) -> Shell:
    """Shapes a skirt, or the skirts of a coat or dress, around both legs.

    Args:
        body: The person.
        pose: Its joints: the hem follows the knees and ankles.
        view: The camera.
        length: Share of the leg that is covered.
        ease: How far the cloth stands off.
        flare: How much wider the hem is than the hips.
    """
    pelvis = pose.joints[walk.PELVIS]
    knees = pose.joints[walk.KNEE : walk.KNEE + 2]
    ankles = pose.joints[walk.ANKLE : walk.ANKLE + 2]
    sections = []
    for part in (0.0, 0.3, 0.65, 1.0):
        down = part * length
        if down <= 0.5:
            legs = pelvis + (knees - pelvis) * down / 0.5
        else:
            legs = knees + (ankles - knees) * (down - 0.5) / 0.5
        middle = legs.mean(0)
        spread = 0.5 * np.abs(legs[0] - legs[1])
        cloth = 0.75 + 0.25 * (1 - part)
        wide = 1 + ease + flare * part
        width = max(body.hip_width * cloth * wide, spread[0] + body.calf_radius * 1.5)
        depth = max(body.hip_depth * cloth * wide, spread[1] * 0.9 + body.calf_radius * 1.5)
        sections.append((middle[0], middle[1], pelvis[2] - down * (pelvis[2] - 0.06), width, depth))
    return _shell(sections, view, 0.0, pelvis[2] + 1, pelvis[2])


def hem(shell: Shell, view: View) -> np.ndarray:
    """Outlines the round lower edge of a shell as a camera above it sees it: (12, 2)."""
    x, y, half = shell.silhouette[-1]
    width, depth, turn = shell.rows[-1, 2:]
    across = np.hypot(width * math.sin(turn), depth * math.cos(turn))
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    drop = across * math.sin(view.elevation)
    return np.stack([x + half * np.cos(angle), y + drop * np.sin(angle)], -1)


def pattern(canvas: Canvas, order: float, shell: Shell, outfit: Outfit) -> None:
    """Draws the pattern of the upper garment on its shell."""
    ink = outfit.second_colour * 0.95
    scale, offset = outfit.pattern_scale, outfit.pattern_offset
    if outfit.pattern in ("hoops", "checks"):
        count = round(5 / scale) + 2
        for k in range(count):
            start = (k + offset) / count
            band = shell.part(start, min(1.0, start + 0.42 / count)).silhouette
            canvas.polygon(order, _outline(band), ink)
    if outfit.pattern in ("stripes", "checks"):
        count = 2 * round(4 / scale) + 4
        for k in range(count):
            start = 2 * np.pi * (k + offset) / count
            corners = shell.strip(start, start + 0.36 * 2 * np.pi / count)
            if corners is not None:
                canvas.polygon(order, corners, ink if outfit.pattern == "stripes" else 0.85 * ink)
    if outfit.pattern == "blocks":
        cut = 0.40 + 0.25 * offset
        canvas.column(order, shell.part(cut, 1.0).silhouette, outfit.second_colour)
    if outfit.pattern == "print":
        for facing in (0.0, np.pi):
            corners = shell.part(0.32, 0.55).strip(facing - 0.55 * scale, facing + 0.55 * scale)
            if corners is not None:
                canvas.polygon(order, corners, ink)


def _outline(silhouette: np.ndarray) -> np.ndarray:
    x, y, half = silhouette.T
    return np.concatenate([np.stack([x - half, y], -1), np.stack([x + half, y], -1)[::-1]])
