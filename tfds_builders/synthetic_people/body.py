"""What belongs to a person: the body, the hair and the way of walking."""

import dataclasses

import numpy as np

from tfds_builders.synthetic_people import seeds

REFERENCE_HEIGHT = 1.70
HAIR_STYLES = ("shaved", "short", "tall", "bob", "long", "ponytail", "bun", "curly")
# By frame: the chance of each style for a slim-shouldered and for a broad-shouldered person.
_HAIR_ODDS = {
    -1: (0.02, 0.10, 0.02, 0.22, 0.24, 0.18, 0.14, 0.08),
    1: (0.18, 0.38, 0.20, 0.04, 0.04, 0.02, 0.04, 0.10),
}


@dataclasses.dataclass(frozen=True)
class Hair:
    """Hair: one of `HAIR_STYLES`; `volume` and `length` in head heights; colour in RGB."""

    style: str
    volume: float
    length: float
    colour: np.ndarray


@dataclasses.dataclass(frozen=True)
class Gait:
    """Way of walking and posture. Angles in radians, lengths in metres."""

    stride: float
    knee_lift: float
    arm_swing: float
    elbow: float
    arm_spread: float
    toe_out: float
    stance: float
    bounce: float
    twist: float
    lean: float
    stoop: float
    head_forward: float


@dataclasses.dataclass(frozen=True)
class Body:
    """Sizes of a person in metres; widths, depths and radii are halves."""

    height: float
    frame: float
    leg: float
    thigh_share: float
    torso: float
    neck: float
    head_height: float
    head_width: float
    shoulder_width: float
    chest_width: float
    chest_depth: float
    waist_width: float
    waist_depth: float
    hip_width: float
    hip_depth: float
    belly: float
    upper_arm: float
    forearm: float
    arm_radius: float
    wrist_radius: float
    thigh_radius: float
    calf_radius: float
    foot: float
    skin: np.ndarray
    hair: Hair
    gait: Gait


def _hair(rng: np.random.Generator, frame: float, complexion: float) -> Hair:
    style = str(rng.choice(HAIR_STYLES, p=_HAIR_ODDS[-1 if frame < 0 else 1]))
    volume = {"shaved": 0.0, "curly": 0.20, "tall": 0.07}.get(style, 0.05)
    length = {"bob": 0.95, "long": 1.7, "ponytail": 1.25}.get(style, 0.5)
    black, brown = np.array([34.0, 28, 27]), np.array([120.0, 82, 52])
    return Hair(
        style=style,
        volume=volume * rng.uniform(0.8, 1.5),
        length=length * rng.uniform(0.8, 1.25),
        colour=black + (brown - black) * rng.uniform(0, 1) ** 2 * complexion,
    )


def _gait(rng: np.random.Generator, height: float, frame: float, variation: float) -> Gait:
    def vary(mean: float, spread: float) -> float:
        return mean + spread * variation * rng.uniform(-1, 1)

    return Gait(
        stride=vary(0.34, 0.11),
        knee_lift=vary(0.66, 0.20),
        arm_swing=vary(0.28, 0.17),
        elbow=vary(0.28, 0.22),
        arm_spread=vary(0.10 + 0.03 * frame, 0.07),
        toe_out=vary(0.12, 0.12),
        stance=vary(0.050, 0.018) * height,
        bounce=vary(0.010, 0.008) * height,
        twist=vary(0.12, 0.08),
        lean=vary(0.035, 0.085),
        stoop=max(0.0, vary(0.12, 0.20)),
        head_forward=max(0.0, vary(0.010, 0.018)) * height,
    )


def sample(seed: int, identity: int, *, variation: float, complexion: float) -> Body:
    """Draws the body of a person.

    Args:
        seed: Seed of the data set.
        identity: Identity of the person.
        variation: How far bodies differ; 0 gives everyone the same one, 1 a wide adult range.
        complexion: How far the colours of skin and hair differ, 0 to 1. They are the only colours
            that survive a change of clothes.
    """
    rng = seeds.generator(seed, "body", identity)
    frame = rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.0)
    heavy = variation * rng.uniform(-1, 1)
    broad = variation * frame
    height = REFERENCE_HEIGHT + 0.055 * broad + 0.13 * variation * rng.uniform(-1, 1)

    def share(mean: float, spread: float, by_weight: float = 0.0, by_frame: float = 0.0) -> float:
        own = spread * variation * rng.uniform(-1, 1)
        return (mean + own + by_weight * heavy + by_frame * broad) * height

    head_height = share(0.132, 0.013)
    neck = share(0.035, 0.009, -0.005)
    leg = share(0.497, 0.036)
    light, dark = np.array([226.0, 182, 152]), np.array([168.0, 118, 88])
    return Body(
        height=height,
        frame=frame,
        leg=leg,
        thigh_share=0.51 + 0.02 * variation * rng.uniform(-1, 1),
        torso=height - leg - head_height - neck,
        neck=neck,
        head_height=head_height,
        head_width=share(0.047, 0.006, 0.003),
        shoulder_width=share(0.112, 0.013, 0.009, 0.015),
        chest_width=share(0.091, 0.005, 0.020, 0.008),
        chest_depth=share(0.065, 0.006, 0.022, 0.003),
        waist_width=share(0.077, 0.006, 0.030, 0.005),
        waist_depth=share(0.058, 0.005, 0.032),
        hip_width=share(0.090, 0.008, 0.022, -0.007),
        hip_depth=share(0.068, 0.009, 0.024, -0.005),
        belly=max(0.0, share(0.004, 0.010, 0.020)),
        upper_arm=share(0.172, 0.013),
        forearm=share(0.150, 0.013),
        arm_radius=share(0.026, 0.003, 0.009, 0.003),
        wrist_radius=share(0.017, 0.001, 0.002, 0.002),
        thigh_radius=share(0.048, 0.004, 0.016),
        calf_radius=share(0.031, 0.003, 0.009),
        foot=share(0.148, 0.010, 0.0, 0.006),
        skin=light + (dark - light) * rng.uniform(0, 1) * complexion,
        hair=_hair(rng, frame, complexion),
        gait=_gait(rng, height, frame, variation),
    )
