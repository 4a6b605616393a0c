"""The settings of a synthetic data set and the list of its pictures."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from tfds_builders.synthetic_people import seeds

CAMERAS = ("A", "B", "C")
# As in PRCC, A and B see a person's first outfit and C the second.
OUTFIT = {"A": 0, "B": 0, "C": 1}
TEST_SPLITS = {"query_same": "B", "query_changed": "C", "gallery": "A"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """Settings of a data set. The seed and these determine every pixel.

    Attributes:
      seed: Seed of everything, not negative.
      height: Height of the images in pixels.
      width: Their width.
      train_people: Number of people to train on.
      test_people: Number of other people to test on.
      train_images: Number of training images, over all three cameras.
      query_same_images: Test images of camera B, clothes as in the gallery.
      query_changed_images: Test images of camera C, other clothes.
      gallery_images: Test images of camera A.
      images_per_pass: Images of one walk through the picture; then heading and place change.
      body_variation: How far bodies and ways of walking differ: 0 makes all alike, 1 is what adults
        differ by, more exaggerates.
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
      light_variation: How far brightness and colour differ between cameras, walks and images.
      blur: Standard deviation of the blur in a picture 128 pixels high, in pixels.
      noise: Standard deviation of the sensor's noise, in grey levels.
    """

    seed: int = 0
    height: int = 128
    width: int = 64
    train_people: int
    test_people: int
    train_images: int
    query_same_images: int
    query_changed_images: int
    gallery_images: int
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
    light_variation: float = 0.5
    blur: float = 0.45
    noise: float = 3.0


@dataclasses.dataclass(frozen=True)
class Shot:
    """One picture: `number` counts the images of one person and camera in the order of time."""

    split: str
    identity: int
    camera: str
    number: int

    @property
    def outfit(self) -> int:
        """Which of the person's outfits is worn."""
        return OUTFIT[self.camera]

    @property
    def clothes(self) -> int:
        """Clothes identifier, unique over all people."""
        return 2 * self.identity + self.outfit

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
    if split == "train":
        people, cameras, total = range(world.train_people), CAMERAS, world.train_images
    else:
        people = range(world.train_people, world.train_people + world.test_people)
        cameras, total = (TEST_SPLITS[split],), getattr(world, f"{split}_images")
    rng = seeds.generator(world.seed, "counts", split)
    counts = uneven_counts(total, len(people) * len(cameras), rng).reshape(-1, len(cameras))
    for identity, row in zip(people, counts, strict=True):
        for camera, count in zip(cameras, row, strict=True):
            for number in range(count):
                yield Shot(split, identity, camera, number)
