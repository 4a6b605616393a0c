"""The settings of a synthetic data set and the list of its pictures."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from tfds_builders.synthetic_people import seeds

# As in PRCC, cameras A and B see a person's first outfit and C the second; all others the first.
OUTFIT = {"A": 0, "B": 0, "C": 1}
_CAMERAS, _WALKS = 26, 64  # At most, and of one person past one camera.


@dataclasses.dataclass(frozen=True)
class Split:
    """A split: its cameras, and its images over all people and cameras.

    The people of `train` are trained on; all other splits show the same test people. Where they
    `change_every_walk`, people wear another outfit in every walk, elsewhere one of two.
    """

    name: str
    cameras: tuple[str, ...]
    images: int
    change_every_walk: bool = False


def splits_as_prcc(
    *, train: int, query_same: int, query_changed: int, gallery: int
) -> tuple[Split, ...]:
    """Returns splits of so many images: B's in the gallery's clothes, C's in others."""
    return (
        Split("train", ("A", "B", "C"), train),
        Split("query_same", ("B",), query_same),
        Split("query_changed", ("C",), query_changed),
        Split("gallery", ("A",), gallery),
    )


def splits_as_sysu_mm01(*, train: int, query: int, gallery: int) -> tuple[Split, ...]:
    """Returns splits of so many images; cameras 3 and 6 are meant to be infrared."""
    return (
        Split("train", ("1", "2", "3", "4", "5", "6"), train),
        Split("query", ("3", "6"), query),
        Split("gallery", ("1", "2", "4", "5"), gallery),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Settings of a data set. The seed and these determine every pixel.

    Attributes:
        seed: Seed of everything, not negative.
        height: Height of the images in pixels.
        width: Their width.
        train_people: Number of people to train on.
        test_people: Number of other people to test on.
        splits: The splits.
        infrared_cameras: Cameras that see warm skin bright, and clothes without colours or
            patterns.
        parts: Whether masks hold part labels (ATR's), and faces are cut out.
        images_per_pass: Images of one walk through the picture; then heading and place change.
        body_variation: How far bodies and ways of walking differ: 0 makes all alike, 1 is what
            adults differ by, more exaggerates.
        height_visibility: How much of a person's height remains in the crop: 0 where every crop is
            fitted to its person, 1 where the scale is the camera's.
        complexion_variation: How far skin and hair colours differ, the colours that survive a
            change of clothes; 0 to 1.
        garment_looseness: How far clothes stand off the body; 0 is skin-tight.
        carry_probability: Chance that an outfit has a bag; a hat has a third of it.
        view_spread: Largest turn of a walk off its camera's usual heading, degrees.
        away_share: Share of walks away from the camera.
        pose_variation: Scale of the irregularity of stride, arms and lean from image to image.
        crop_jitter: Standard deviation of the place and size of a crop, as a share of its height.
        background_contrast: Contrast of backgrounds; 0 leaves grey.
        light: Factors of red, green and blue over all cameras: small ones are a dim place.
        light_variation: How far brightness and colour differ between cameras, walks and images.
        blur: Standard deviation of the blur in a picture 128 pixels high, in pixels.
        noise: Standard deviation of the sensor's noise, in grey levels.
    """

    seed: int = 0
    height: int = 128
    width: int = 64
    train_people: int
    test_people: int
    splits: tuple[Split, ...]
    infrared_cameras: tuple[str, ...] = ()
    parts: bool = False
    images_per_pass: int = 6
    body_variation: float = 1.3
    height_visibility: float = 0.6
    complexion_variation: float = 0.25
    garment_looseness: float = 0.8
    carry_probability: float = 0.35
    view_spread: float = 12.0
    away_share: float = 0.25
    pose_variation: float = 1.0
    crop_jitter: float = 0.012
    background_contrast: float = 0.4
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)
    light_variation: float = 0.5
    blur: float = 0.45
    noise: float = 3.0


@dataclasses.dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        split: Name of the split.
        identity: The person.
        camera: The camera.
        number: Counts the images of one person and camera in the order of time.
        walk: Number of the walk; None where the camera alone decides what is worn.
    """

    split: str
    identity: int
    camera: str
    number: int
    walk: int | None = None

    @property
    def outfit(self) -> int:
        """Which of the person's outfits is worn."""
        if self.walk is not None:
            return _WALKS * self.camera_number + self.walk
        return OUTFIT.get(self.camera, 0)

    @property
    def camera_number(self) -> int:
        """The camera as a label: its place in the alphabet from 0, or its own number."""
        return int(self.camera) if self.camera.isdecimal() else ord(self.camera) - ord("A")

    @property
    def clothes(self) -> int:
        """Clothes identifier, unique over all people."""
        return _CAMERAS * _WALKS * self.identity + self.outfit

    @property
    def name(self) -> str:
        """Name of the image, without an extension."""
        return f"{self.split}/{self.identity:04d}/{self.camera}_{self.number:04d}"


def uneven_counts(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Splits `total` images over `parts` people, some with twice as many as others.

    Returns:
        (parts,) int64 that sum to `total`, at least 1 each.

    Raises:
        ValueError: If there are fewer images than people.
    """
    if total < parts:
        raise ValueError(f"{total} images do not suffice for {parts} people and cameras")
    weights = np.exp(0.35 * rng.standard_normal(parts))
    shares = weights / weights.sum() * (total - parts)
    counts = np.floor(shares).astype(np.int64)
    missing = total - parts - counts.sum()
    counts[np.argsort(counts - shares)[:missing]] += 1
    return counts + 1


def shots(world: World, split: str) -> Iterator[Shot]:
    """Lists the pictures of a split, person by person and camera by camera.

    Training people are 0 to `train_people` - 1, test people follow.
    """
    (found,) = (candidate for candidate in world.splits if candidate.name == split)
    cameras = found.cameras
    people = range(world.train_people)
    if split != "train":
        people = range(world.train_people, world.train_people + world.test_people)
    rng = seeds.generator(world.seed, "counts", split)
    counts = uneven_counts(found.images, len(people) * len(cameras), rng)
    counts = counts.reshape(-1, len(cameras))
    for identity, row in zip(people, counts, strict=True):
        for camera, count in zip(cameras, row, strict=True):
            for number in range(count):
                walk = number // world.images_per_pass if found.change_every_walk else None
                yield Shot(split, identity, camera, number, walk)
