"""The TFDS builder of the synthetic people."""

import dataclasses
from collections.abc import Iterator

import tensorflow_datasets as tfds

from tfds_builders.reid.features import INFRARED, UNKNOWN, VISIBLE, make_example, reid_features
from tfds_builders.synthetic_people import studio
from tfds_builders.synthetic_people.world import (
    Split,
    World,
    shots,
    splits_as_prcc,
    splits_as_sysu_mm01,
)


@dataclasses.dataclass(eq=False, kw_only=True)
class SyntheticPeopleConfig(tfds.core.BuilderConfig):
    """A named data set; `world` holds its sizes and all settings of the drawing."""

    world: World


TINY = World(
    train_people=8,
    test_people=6,
    splits=splits_as_prcc(train=96, query_same=18, query_changed=18, gallery=18),
)
# Few people and a few minutes: bodies differ more than adults' do and garments are close, so that
# a small network can learn shapes; light changes from walk to walk, so that colour is a poor guide
# even to people in the same clothes, as it is from camera to camera.
DAY = World(
    train_people=48,
    test_people=36,
    splits=splits_as_prcc(train=1440, query_same=216, query_changed=252, gallery=216),
    images_per_pass=10,
    body_variation=2.2,
    height_visibility=0.6,
    garment_looseness=0.4,
    carry_probability=0.15,
    view_spread=6.0,
    away_share=0.1,
    pose_variation=0.6,
    light_variation=4.0,
)
# A place that no other config shows, so that a network that knows people has to learn it: sodium
# lamps at night, dim and orange, a noisy picture and much to be seen behind.
DEMO = dataclasses.replace(
    DAY,
    train_people=64,
    splits=splits_as_prcc(train=1920, query_same=216, query_changed=252, gallery=216),
    light=(0.42, 0.28, 0.16),
    noise=6.0,
    blur=0.7,
    background_contrast=0.8,
)
# Clothes are the same for all cameras, and bodies as different as the demo's.
INFRARED_DEMO = dataclasses.replace(
    DAY,
    train_people=32,
    test_people=20,
    splits=splits_as_sysu_mm01(train=1152, query=160, gallery=320),
    infrared_cameras=("3", "6"),
    light_variation=1.0,
)
INFRARED_TINY = dataclasses.replace(
    INFRARED_DEMO,
    train_people=6,
    test_people=4,
    splits=splits_as_sysu_mm01(train=96, query=16, gallery=32),
)
FACES_DEMO = dataclasses.replace(DAY, parts=True)
FACES_TINY = dataclasses.replace(TINY, parts=True)
# What teaches a network to look at bodies: clothes that say nothing, and twelve cameras; none of
# the demo's people and places.
MANY_OUTFITS = dataclasses.replace(
    DAY,
    seed=20,
    train_people=1200,
    test_people=40,
    splits=(
        Split("train", tuple("ABCDEFGHIJKL"), 24000, change_every_walk=True),
        Split("query_changed", tuple("ABCD"), 320, change_every_walk=True),
        Split("gallery", tuple("EFGH"), 320, change_every_walk=True),
    ),
    images_per_pass=2,
    view_spread=10.0,
    crop_jitter=0.02,
    background_contrast=0.5,
)
PRCC_SIZED = World(
    height=256,
    width=128,
    train_people=150,
    test_people=71,
    splits=splits_as_prcc(train=17896, query_same=3543, query_changed=3873, gallery=3384),
    images_per_pass=14,
)


class Builder(tfds.core.GeneratorBasedBuilder):
    """Draws the data set; needs no files and no TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        SyntheticPeopleConfig(name="tiny", description="For tests.", world=TINY),
        SyntheticPeopleConfig(name="demo", description="For a few minutes of CPU.", world=DEMO),
        SyntheticPeopleConfig(
            name="many_outfits", description="Another outfit in every walk.", world=MANY_OUTFITS
        ),
        SyntheticPeopleConfig(
            name="prcc_sized", description="As large as PRCC, for benchmarks.", world=PRCC_SIZED
        ),
        SyntheticPeopleConfig(
            name="infrared", description="Two of six cameras are infrared.", world=INFRARED_DEMO
        ),
        SyntheticPeopleConfig(
            name="infrared_tiny", description="The same for tests.", world=INFRARED_TINY
        ),
        SyntheticPeopleConfig(
            name="faces", description="With faces and part labels, by day.", world=FACES_DEMO
        ),
        SyntheticPeopleConfig(
            name="faces_tiny", description="The same for tests.", world=FACES_TINY
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        settings = dataclasses.asdict(self.builder_config.world)
        return self.dataset_info_from_configs(
            features=reid_features(), metadata=tfds.core.MetadataDict(world=settings)
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        splits = self.builder_config.world.splits
        return {split.name: self._generate_examples(split.name) for split in splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        world = self.builder_config.world
        for shot, files in studio.develop_all(world, shots(world, split)):
            name = f"{shot.name}.jpg"
            modality = UNKNOWN
            if world.infrared_cameras:
                modality = INFRARED if shot.camera in world.infrared_cameras else VISIBLE
            yield (
                name,
                make_example(
                    **files,
                    file_name=name,
                    identity=shot.identity,
                    camera=shot.camera_number,
                    clothes=shot.clothes,
                    modality=modality,
                ),
            )
