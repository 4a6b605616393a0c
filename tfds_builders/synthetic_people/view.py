"""From metres around a person to pixels of a picture."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class View:
    """One camera's look at one person.

    Attributes:
        yaw: Heading of the person against the camera, radians: 0 walks towards it, pi / 2 walks to
            the right of the picture, pi walks away.
        elevation: How far the camera looks down, radians.
        distance: Distance of the camera, metres; a near one makes heads larger than feet.
        pixels_per_metre: Scale at the person.
        centre: Picture position (x, y) of the point `middle` metres above the ground.
        middle: See `centre`.
    """

    yaw: float
    elevation: float
    distance: float
    pixels_per_metre: float
    centre: tuple[float, float]
    middle: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Projects points.

        Args:
            points: (..., 3) metres: left of the body, forward, up.

        Returns:
            (..., 4): x and y in pixels, nearness to the camera in metres, pixels per metre there.
        """
        left, forward, up = points[..., 0], points[..., 1], points[..., 2] - self.middle
        sine, cosine = math.sin(self.yaw), math.cos(self.yaw)
        right = left * cosine + forward * sine
        near = forward * cosine - left * sine
        tilt_sine, tilt_cosine = math.sin(self.elevation), math.cos(self.elevation)
        nearness = near * tilt_cosine + up * tilt_sine
        scale = self.pixels_per_metre * self.distance / (self.distance - nearness)
        seen = np.empty((*points.shape[:-1], 4))
        seen[..., 0] = self.centre[0] + scale * right
        seen[..., 1] = self.centre[1] - scale * (up * tilt_cosine - near * tilt_sine)
        seen[..., 2] = near
        seen[..., 3] = scale
        return seen
