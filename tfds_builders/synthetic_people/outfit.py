"""What a person wears and carries."""

import dataclasses
import math

import numpy as np

from tfds_builders.synthetic_people import seeds

PATTERNS = ("plain", "hoops", "stripes", "checks", "blocks", "print")
CARRIED = ("nothing", "backpack", "shoulder bag", "tote")


@dataclasses.dataclass(frozen=True)
class Top:
    """Upper garment.

    `sleeve`: share of the arm that is covered. `hem`: share of the leg that is covered. `ease`:
    how far the cloth stands off the body, as a share of its radius. `flare`: how much wider it
    gets towards a long hem.
    """

    kind: str
    sleeve: float
    hem: float
    ease: float
    flare: float
    open_front: bool = False
    hood: bool = False


@dataclasses.dataclass(frozen=True)
class Bottom:
    """Lower garment: `length`, share of the leg; a `skirt` hangs as one piece; `ease`, `flare`."""

    kind: str
    length: float
    ease: float
    flare: float
    skirt: bool = False


TOPS = {
    "T-shirt": Top("T-shirt", sleeve=0.42, hem=0.10, ease=0.05, flare=0.0),
    "vest": Top("vest", sleeve=0.0, hem=0.10, ease=0.03, flare=0.0),
    "shirt": Top("shirt", sleeve=1.0, hem=0.13, ease=0.08, flare=0.05),
    "jumper": Top("jumper", sleeve=1.0, hem=0.08, ease=0.13, flare=0.0),
    "hoodie": Top("hoodie", sleeve=1.0, hem=0.11, ease=0.16, flare=0.0, hood=True),
    "jacket": Top("jacket", sleeve=1.0, hem=0.09, ease=0.15, flare=0.0, open_front=True),
    "coat": Top("coat", sleeve=1.0, hem=0.56, ease=0.16, flare=0.22, open_front=True),
    "dress": Top("dress", sleeve=0.42, hem=0.60, ease=0.04, flare=0.40),
}
BOTTOMS = {
    "trousers": Bottom("trousers", length=0.97, ease=0.16, flare=0.1),
    "jeans": Bottom("jeans", length=0.97, ease=0.06, flare=0.0),
    "wide trousers": Bottom("wide trousers", length=0.98, ease=0.22, flare=0.5),
    "shorts": Bottom("shorts", length=0.46, ease=0.22, flare=0.1),
    "skirt": Bottom("skirt", length=0.50, ease=0.05, flare=0.35, skirt=True),
    "long skirt": Bottom("long skirt", length=0.84, ease=0.05, flare=0.45, skirt=True),
}
# Chances of the kinds above for frame < 0 and frame >= 0; rows in the order of the tables.
_TOP_ODDS = {
    -1: (0.22, 0.08, 0.14, 0.16, 0.10, 0.12, 0.08, 0.10),
    1: (0.28, 0.05, 0.18, 0.16, 0.14, 0.13, 0.06, 0.0),
}
_BOTTOM_ODDS = {-1: (0.26, 0.34, 0.08, 0.10, 0.16, 0.06), 1: (0.42, 0.34, 0.06, 0.18, 0.0, 0.0)}


@dataclasses.dataclass(frozen=True)
class Outfit:
    """Everything that a change of clothes changes. Colours are RGB, 0 to 255."""

    top: Top
    bottom: Bottom
    pattern: str
    colour: np.ndarray
    second_colour: np.ndarray
    inner_colour: np.ndarray
    bottom_colour: np.ndarray
    shoe_colour: np.ndarray
    sock_colour: np.ndarray
    boots: bool
    carried: str
    carried_size: float
    carried_side: int
    carried_colour: np.ndarray
    hat: str
    hat_colour: np.ndarray
    pattern_scale: float
    pattern_offset: float


# Hue (degrees), saturation, value of cloth: what people do wear, greys and blues more than most.
_CLOTH = np.array(
    [
        (0, 0.02, 0.12), (0, 0.02, 0.22), (0, 0.02, 0.45), (0, 0.02, 0.70), (40, 0.04, 0.92),
        (215, 0.60, 0.28), (212, 0.55, 0.50), (205, 0.60, 0.78), (190, 0.55, 0.62),
        (0, 0.78, 0.62), (352, 0.72, 0.82), (338, 0.42, 0.86), (20, 0.75, 0.82),
        (45, 0.72, 0.88), (38, 0.42, 0.72), (28, 0.55, 0.42), (140, 0.55, 0.36),
        (95, 0.45, 0.52), (165, 0.50, 0.58), (275, 0.42, 0.48), (300, 0.35, 0.66),
        (75, 0.35, 0.38),
    ]
)  # fmt: skip
_TROUSER_ROWS = np.array([0, 0, 1, 1, 2, 3, 5, 5, 6, 6, 14, 15, 16, 21, 4, 9])


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """Converts hue in degrees, saturation and value in 0 to 1 into RGB, 0 to 255."""
    k = (np.array([5.0, 3.0, 1.0]) + hue / 60) % 6
    return 255 * value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1))


def _cloth(rng: np.random.Generator, rows: np.ndarray | None = None) -> np.ndarray:
    row = int(rng.integers(len(_CLOTH)) if rows is None else rng.choice(rows))
    hue, saturation, value = _CLOTH[row]
    return _rgb(
        hue + rng.uniform(-8, 8),
        float(np.clip(saturation * rng.uniform(0.8, 1.2), 0, 1)),
        float(np.clip(value * rng.uniform(0.88, 1.12), 0, 1)),
    )


def _contrasting(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """Draws cloth that can be told from `colour`."""
    for _ in range(20):
        other = _cloth(rng)
        if np.abs(other - colour).sum() > 150:
            return other
    return 255 - colour


def sample(
    seed: int,
    identity: int,
    number: int,
    *,
    frame: float,
    looseness: float,
    carry_probability: float,
) -> Outfit:
    """Draws an outfit.

    Args:
        seed: Seed of the data set.
        identity: Who wears it.
        number: Which of the person's outfits.
        frame: The person's frame, -1 to 1: only the odds of skirts and dresses depend on it.
        looseness: Scale of how far garments stand off the body; 0 is skin-tight.
        carry_probability: Chance of a bag; a hat has a third of it.
    """
    rng = seeds.generator(seed, "outfit", identity, number)
    side = -1 if frame < 0 else 1
    top = TOPS[str(rng.choice(list(TOPS), p=_TOP_ODDS[side]))]
    bottom = BOTTOMS[str(rng.choice(list(BOTTOMS), p=_BOTTOM_ODDS[side]))]
    ease = looseness * rng.uniform(0.8, 1.2)
    top = dataclasses.replace(top, ease=top.ease * ease, flare=top.flare * math.sqrt(ease))
    bottom = dataclasses.replace(
        bottom, ease=bottom.ease * ease, flare=bottom.flare * math.sqrt(ease)
    )
    colour = _cloth(rng)
    carried = str(rng.choice(CARRIED[1:])) if rng.random() < carry_probability else CARRIED[0]
    hat = str(rng.choice(["cap", "beanie"])) if rng.random() < carry_probability / 3 else ""
    return Outfit(
        top=top,
        bottom=bottom,
        pattern=str(rng.choice(PATTERNS, p=(0.46, 0.14, 0.08, 0.10, 0.10, 0.12))),
        colour=colour,
        second_colour=_contrasting(rng, colour),
        inner_colour=_contrasting(rng, colour),
        bottom_colour=_cloth(rng, _TROUSER_ROWS),
        shoe_colour=_cloth(rng, np.array([0, 1, 3, 4, 4, 9, 14, 15])),
        sock_colour=_cloth(rng, np.array([0, 3, 4, 5])),
        boots=bool(rng.random() < 0.15),
        carried=carried,
        carried_size=rng.uniform(0.8, 1.2),
        carried_side=int(rng.integers(2)),
        carried_colour=_contrasting(rng, colour),
        hat=hat,
        hat_colour=_cloth(rng),
        pattern_scale=rng.uniform(0.7, 1.4),
        pattern_offset=rng.uniform(0, 1),
    )
