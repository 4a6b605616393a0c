"""Head, face, hair and hat."""

import math

import numpy as np

from tfds_builders.synthetic_people import walk
from tfds_builders.synthetic_people.body import Body
from tfds_builders.synthetic_people.canvas import Canvas
from tfds_builders.synthetic_people.outfit import Outfit
from tfds_builders.synthetic_people.view import View


def head_place(body: Body, pose: walk.Pose, view: View) -> tuple[float, float, float]:
    """Returns x and y of a head's middle and half its height, in pixels."""
    x, y, _, scale = view.project(pose.joints[walk.CROWN] - (0, 0, body.head_height / 2))
    return x, y, scale * body.head_height / 2


class HeadPainter:
    """Draws a head in its own frame: units of half the head's height around its middle."""

    def __init__(self, canvas: Canvas, body: Body, pose: walk.Pose, view: View):
        """Measures the head; nothing is drawn yet."""
        self.canvas, self.body = canvas, body
        crown, collar = pose.joints[walk.CROWN], pose.joints[walk.COLLAR]
        self.x, self.y, self.unit = head_place(body, pose, view)
        self.scale = scale = 2 * self.unit / body.head_height
        self.front, self.side = math.cos(view.yaw), math.sin(view.yaw)
        # A head is deeper than it is wide.
        self.width = math.hypot(self.front, 1.22 * self.side) * body.head_width * scale / self.unit
        self.neck = view.project(np.stack([collar - (0, 0, 0.02), crown * 0.45 + collar * 0.55]))
        self.slant = -0.10 * self.side

    def _blob(self, order, x, y, half_width, half_height, colour) -> None:
        centre = (self.x + self.unit * x, self.y + self.unit * y)
        axes = (self.unit * half_width, self.unit * half_height)
        self.canvas.ellipse(order, centre, axes, colour, self.slant)

    def draw(self, outfit: Outfit) -> None:
        """Draws neck, head, hair and hat."""
        body = self.body
        radius = 0.62 * body.head_width * self.scale
        self.canvas.limb(-0.3, self.neck, [1.15 * radius, radius], body.skin * 0.9)
        self._blob(1.0, 0, 0, self.width, 1.0, body.skin)
        self._hair()
        self._face()
        if outfit.hat:
            self._hat(outfit)

    def _hair(self) -> None:
        hair, width = self.body.hair, self.width
        colour, back = hair.colour, -self.side
        behind = -0.35 if self.front > 0 else 1.45
        grow = 1 + hair.volume * 2
        if hair.style == "shaved":
            colour = 0.35 * colour + 0.65 * self.body.skin
        # The scalp: all of the head but the face, which is painted over it.
        if hair.style in ("shaved", "short", "tall"):
            self._blob(1.2, 0.10 * back, -0.24, width * grow * 0.98, 0.80 * grow, colour)
            self._ears()
        else:
            self._blob(1.2, 0.08 * back, -0.16, width * grow, 0.88 * grow, colour)
        if hair.style == "tall":
            self._blob(1.2, 0.15 * self.side, -0.95, 0.75 * width, 0.35, colour)
        if hair.style == "curly":
            self._blob(1.2, 0.12 * back, -0.25, width * grow * 1.05, 0.85 * grow, colour)
        if hair.style == "bun":
            away = 0.9 * back * width
            lift = -0.75 if self.front > -0.3 else -0.45
            self._blob(behind, away, lift - 0.25, 0.42, 0.40, colour)
        if hair.style in ("bob", "long"):
            end = hair.length * 1.55
            self._fall(behind, 0.30 * back, -0.3, end, width * grow * (1.02 if end < 2 else 0.92))
        if hair.style == "ponytail":
            self._fall(behind, 1.02 * back * width, -0.35, 1.4 * hair.length, 0.30)

    def _ears(self) -> None:
        for left in (1, -1):
            if -left * self.side > -0.3:
                x = 0.98 * left * self.front * self.width / math.hypot(self.front, 1.22 * self.side)
                self._blob(1.25, x, 0.12, 0.12, 0.20, self.body.skin * 0.94)

    def _fall(self, order: float, x: float, start: float, end: float, half: float) -> None:
        """Hair that hangs from `start` to `end`, behind the head by `x`."""
        half = half * (1 - 0.25 * abs(self.side)) if half > 0.5 else half
        radius = half * self.unit
        top = (self.x + self.unit * x, self.y + self.unit * start)
        low = (self.x + self.unit * 1.1 * x, self.y + self.unit * end - 0.55 * radius)
        points = np.array([top, low])
        self.canvas.limb(order, points, [radius, 0.8 * radius], self.body.hair.colour)

    def _face(self) -> None:
        if self.front < -0.35:
            return
        skin, width = self.body.skin, self.width
        turn = abs(self.side)
        # The face slides to the side that the person looks at and gets narrower.
        shown = width * (0.86 - 0.26 * turn) * min(1.0, 1 + self.front)
        middle = math.copysign(width - shown, self.side) * turn * 0.98
        self._blob(1.3, middle, 0.24, shown, 0.72, skin)
        nose = middle + self.side * shown * 0.95
        if turn > 0.6:
            self._blob(1.31, nose, 0.22, 0.15, 0.13, skin)
        dark = skin * 0.35
        for eye in (-0.42, 0.42):
            place = middle + (eye * self.front + 0.62 * self.side) * shown
            if abs(place - middle) < shown * 0.86:
                self._blob(1.32, place, 0.08, 0.085, 0.065, dark)
        mouth = middle + 0.6 * self.side * shown
        self._blob(1.32, mouth, 0.58, 0.20 * (1 - 0.4 * turn), 0.05, skin * 0.6)

    def _hat(self, outfit: Outfit) -> None:
        width, colour = self.width, outfit.hat_colour
        grow = 1.10 + self.body.hair.volume
        self._blob(1.4, -0.03 * self.side, -0.52, width * grow, 0.62, colour)
        if outfit.hat == "cap" and self.front > -0.5:
            brim = self.side * width * 0.95
            self._blob(1.41, brim, -0.26, 0.62 * width, 0.13 + 0.12 * self.front, colour * 0.85)
