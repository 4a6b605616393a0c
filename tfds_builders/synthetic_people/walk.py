"""A moment of a walk: the joints of a body at a phase of its step."""

import dataclasses
import math

import numpy as np

from tfds_builders.synthetic_people.body import Body

# Rows of `Pose.joints`. Left ones first; add 1 for the right.
PELVIS, WAIST, CHEST, COLLAR, CROWN = 0, 1, 2, 3, 4
SHOULDER, ELBOW, WRIST, FINGERS = 5, 7, 9, 11
HIP, KNEE, ANKLE, HEEL, TOE = 13, 15, 17, 19, 21
COUNT = 23
_ANKLE_HEIGHT = 0.042


@dataclasses.dataclass(frozen=True)
class Pose:
    """Where the joints are.

    `joints` (23, 3) float, metres: left of the body, forward, up; the origin is on the ground
    under the pelvis. `twist` is the turn of the shoulders against the pelvis, radians.
    """

    joints: np.ndarray
    twist: float


def _leg(body: Body, out: np.ndarray, side: int, phase: float, effort: float) -> None:
    """Writes hip, knee, ankle, heel and toe of one side; side 0 is the left."""
    gait = body.gait
    sign = 1 - 2 * side
    thigh_angle = 0.04 + gait.stride * effort * math.sin(phase)
    # The knee bends most early in the swing, when the thigh starts forward.
    bend = 0.06 + gait.knee_lift * effort * max(0.0, math.cos(phase + 0.6)) ** 2
    shin_angle = thigh_angle - bend
    ankle_height = _ANKLE_HEIGHT * body.height
    thigh = body.leg * body.thigh_share
    shin = body.leg - thigh - ankle_height
    hip = out[PELVIS] + (sign * 0.52 * body.hip_width, 0, 0)
    inward = (sign * gait.stance - hip[0]) / 2
    knee = hip + (inward, thigh * math.sin(thigh_angle), -thigh * math.cos(thigh_angle))
    ankle = knee + (inward, shin * math.sin(shin_angle), -shin * math.cos(shin_angle))
    pitch = 0.75 * min(0.0, shin_angle + 0.25) + 0.30 * max(0.0, math.sin(phase)) * effort
    along = np.array([sign * math.sin(gait.toe_out), math.cos(gait.toe_out), math.sin(pitch)])
    down = np.array([0, ankle_height * math.sin(pitch), -0.62 * ankle_height * math.cos(pitch)])
    out[HIP + side], out[KNEE + side], out[ANKLE + side] = hip, knee, ankle
    out[HEEL + side] = ankle + down - 0.20 * body.foot * along
    out[TOE + side] = ankle + down + 0.66 * body.foot * along


def _arm(body: Body, out: np.ndarray, side: int, phase: float, effort: float, still: bool) -> None:
    """Writes elbow, wrist and fingers of one side; a `still` arm carries something."""
    gait = body.gait
    sign = 1 - 2 * side
    swing = 0.25 if still else 1.0
    upper = -gait.arm_swing * effort * swing * math.sin(phase) - 0.06
    bend = 0.1 if still else gait.elbow * (1 + 0.4 * max(0.0, upper / max(gait.arm_swing, 0.05)))
    lower = upper + bend
    out_angle = gait.arm_spread
    spread = sign * math.sin(out_angle)
    elbow = out[SHOULDER + side] + body.upper_arm * np.array(
        [spread, math.sin(upper), -math.cos(upper) * math.cos(out_angle)]
    )
    direction = np.array([0.35 * spread, math.sin(lower), -math.cos(lower)])
    out[ELBOW + side] = elbow
    out[WRIST + side] = elbow + body.forearm * direction
    out[FINGERS + side] = out[WRIST + side] + 0.055 * body.height * direction


def pose(
    body: Body, phase: float, *, effort: float = 1.0, lean: float = 0.0, carrying: int | None = None
) -> Pose:
    """Places the joints.

    Args:
        body: The person.
        phase: Phase of the step in radians; the left leg is foremost at pi / 2.
        effort: Scale of stride and arm swing, 1 for this person's usual walk.
        lean: Forward lean beyond the person's own, radians.
        carrying: Side of the arm that carries a bag (0 left, 1 right), or None.
    """
    gait = body.gait
    out = np.zeros((COUNT, 3))
    out[PELVIS, 2] = body.leg
    for side in (0, 1):
        _leg(body, out, side, phase + math.pi * side, effort)
    lift = out[HEEL : TOE + 2, 2].min() - 0.012 * body.height
    out[:, 2] -= lift
    out[PELVIS, 2] += gait.bounce * math.cos(2 * phase)
    angle = gait.lean + lean
    spine = body.torso * np.array([0.0, math.sin(angle), math.cos(angle)])
    curve = body.torso * np.array([0.0, 0.22 * gait.stoop, 0.0])
    out[WAIST] = out[PELVIS] + 0.30 * spine - 0.4 * curve
    out[CHEST] = out[PELVIS] + 0.68 * spine - 0.2 * curve
    out[COLLAR] = out[PELVIS] + 0.97 * spine + curve
    out[CROWN] = out[COLLAR] + (
        0,
        gait.head_forward + 0.5 * math.sin(angle + gait.stoop) * (body.neck + body.head_height),
        body.neck + body.head_height + 0.03 * body.torso,
    )
    twist = gait.twist * effort * math.sin(phase)
    across = np.array([math.cos(twist), math.sin(twist), 0])
    for side in (0, 1):
        shoulder = out[PELVIS] + 0.86 * spine + 0.55 * curve
        out[SHOULDER + side] = shoulder + (1 - 2 * side) * 0.93 * body.shoulder_width * across
        _arm(body, out, side, phase + math.pi * side, effort, carrying == side)
    return Pose(joints=out, twist=twist)
