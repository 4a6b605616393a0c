"""Shapes with soft edges on a transparent canvas.

Drawing anti-aliased colour with alpha 255 onto a transparent black canvas leaves premultiplied
colour and coverage in one go, so the picture and the mask can never disagree.
"""

import dataclasses
import functools

import cv2
import numpy as np

_SHIFT = 4  # OpenCV takes coordinates with this many fractional bits.
_ARC = np.linspace(0.0, 1.0, 7)
_ANGLES = np.linspace(0.0, 2 * np.pi, 20, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)
# Rounded bodies are drawn as nested shapes, from the dark rim to the lit middle.
_INSET = np.array([0.0, 0.26, 0.58])
_TONE = np.array([0.80, 0.95, 1.05])


def capsule_outlines(capsules: np.ndarray) -> np.ndarray:
    """Outlines tapered capsules: the convex hull of two discs.

    Args:
        capsules: (M, 6): x, y, radius of one end and of the other.

    Returns:
        (M, 14, 2) corners of convex polygons.
    """
    x1, y1, r1, x2, y2, r2 = capsules.T[..., None]
    dx, dy = x2 - x1, y2 - y1
    heading = np.arctan2(dy, dx)
    touch = np.arccos(np.clip((r1 - r2) / np.maximum(np.hypot(dx, dy), 1e-6), -1, 1))
    near = heading + touch + _ARC * (2 * np.pi - 2 * touch)
    far = heading - touch + _ARC * 2 * touch
    return np.concatenate(
        [
            np.stack([x1 + r1 * np.cos(near), y1 + r1 * np.sin(near)], -1),
            np.stack([x2 + r2 * np.cos(far), y2 + r2 * np.sin(far)], -1),
        ],
        axis=1,
    )


@functools.cache
def _smoothing(count: int, steps: int) -> np.ndarray:
    """Returns Catmull-Rom weights: (1 + (count - 1) * steps, count), rows sum to 1."""
    padded = np.eye(count)[np.clip(np.arange(-1, count + 1), 0, count - 1)]
    rows = []
    for i in range(count - 1):
        p0, p1, p2, p3 = padded[i : i + 4]
        for t in np.arange(steps) / steps:
            rows.append(
                p1
                + 0.5 * t * (p2 - p0)
                + t * t * (p0 - 2.5 * p1 + 2 * p2 - 0.5 * p3)
                + t**3 * (1.5 * (p1 - p2) + 0.5 * (p3 - p0))
            )
    rows.append(padded[count])
    return np.array(rows)


def smooth(sections: np.ndarray, steps: int = 3) -> np.ndarray:
    """Puts a smooth curve through the rows of `sections` (S, C), `steps` rows for each."""
    return _smoothing(len(sections), steps) @ sections


@dataclasses.dataclass
class Canvas:
    """Collects shapes, then paints them from the back to the front.

    Attributes:
        light: (x, y) direction in the picture from which light comes, length at most 1.
    """

    light: tuple[float, float]
    _capsules: list = dataclasses.field(default_factory=list)
    _capsule_style: list = dataclasses.field(default_factory=list)
    _shapes: list = dataclasses.field(default_factory=list)

    def limb(self, order: float, points: np.ndarray, radii, colours) -> None:
        """Adds a chain of rounded, shaded capsules.

        Args:
            order: Shapes with a higher order cover the others.
            points: (K + 1, 2 or more) x, y of the joints.
            radii: K + 1 radii in pixels.
            colours: One RGB colour for the chain or K for its parts.
        """
        parts = len(points) - 1
        if np.ndim(colours) == 1:
            colours = [colours] * parts
        for k in range(parts):
            a, b = points[k], points[k + 1]
            self._capsules.append((a[0], a[1], radii[k], b[0], b[1], radii[k + 1]))
            self._capsule_style.append((order, colours[k]))

    def polygon(self, order: float, corners: np.ndarray, colour: np.ndarray) -> None:
        """Adds a flat shape (P, 2) that every horizontal line crosses at most twice."""
        self._shapes.append((order, corners, colour))

    def column(self, order: float, sections: np.ndarray, colour: np.ndarray) -> None:
        """Adds a rounded, shaded column.

        Args:
            order: As in `limb`.
            sections: (S, 3) from top to bottom: x and y of the middle, half the width.
            colour: RGB.
        """
        count = len(sections)
        x, y, half = sections.T
        middle = x + 0.8 * self.light[0] * _INSET[:, None] * half
        inner = half * (1 - _INSET[:, None])
        outlines = np.empty((len(_INSET), 2 * count, 2))
        outlines[:, :count, 0] = middle - inner
        outlines[:, count:, 0] = (middle + inner)[:, ::-1]
        outlines[:, :count, 1] = y
        outlines[:, count:, 1] = y[::-1]
        self._shade(order, outlines, colour)

    def ellipse(self, order: float, centre, axes, colour: np.ndarray, slant: float = 0.0) -> None:
        """Adds a rounded, shaded ellipse.

        Args:
            order: As in `limb`.
            centre: x and y.
            axes: Half the width and half the height.
            colour: RGB.
            slant: Shift to the right of every pixel further down.
        """
        width, height = axes
        shape = _CIRCLE @ np.array([[width, 0.0], [slant * height, height]])
        shift = 0.8 * _INSET[:, None] * np.array(self.light) * axes + centre
        outlines = (1 - _INSET)[:, None, None] * shape + shift[:, None, :]
        self._shade(order, outlines, colour)

    def _shade(self, order: float, outlines: np.ndarray, colour: np.ndarray) -> None:
        """Adds nested outlines (3, P, 2), from the rim to the middle, with their tones."""
        for step, outline in enumerate(outlines):
            self._shapes.append((order + 1e-4 * step, outline, colour * _TONE[step]))

    def _add_capsules(self) -> None:
        ends = np.array(self._capsules).reshape(-1, 1, 2, 3)
        inset = _INSET[:, None]
        shaded = np.repeat(ends, len(_INSET), axis=1)
        for axis in (0, 1):
            shaded[..., axis] += self.light[axis] * 0.8 * inset * ends[..., 2]
        shaded[..., 2] *= 1 - inset
        outlines = capsule_outlines(shaded.reshape(-1, 6)).reshape(len(ends), len(_INSET), -1, 2)
        for (order, colour), parts in zip(self._capsule_style, outlines, strict=True):
            self._shade(order, parts, colour)

    def paint(self, height: int, width: int, line_type: int = cv2.LINE_AA) -> np.ndarray:
        """Paints everything.

        Args:
            height: Height of the picture in pixels.
            width: Its width.
            line_type: OpenCV's; `LINE_8` leaves no mixed colours at edges.

        Returns:
            (height, width, 4) uint8: RGB times alpha, and alpha.
        """
        if self._capsules:
            self._add_capsules()
        picture = np.zeros((height, width, 4), np.uint8)
        shapes = sorted(self._shapes, key=lambda shape: shape[0])
        corners = np.concatenate([shape[1] for shape in shapes])
        corners = np.rint(corners * (1 << _SHIFT)).astype(np.int32)
        ends = np.cumsum([len(shape[1]) for shape in shapes]).tolist()
        colours = np.full((len(shapes), 4), 255.0)
        colours[:, :3] = np.clip([shape[2] for shape in shapes], 0, 255)
        start = 0
        for end, colour in zip(ends, colours.tolist(), strict=True):
            cv2.fillConvexPoly(picture, corners[start:end], colour, line_type, _SHIFT)
            start = end
        return picture
