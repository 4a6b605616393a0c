"""The TFDS builder of the synthetic people."""

import dataclasses
from collections.abc import Iterator

import tensorflow_datasets as tfds

from tfds_builders.reid.features import make_example, reid_features
from tfds_builders.synthetic_people import studio
from tfds_builders.synthetic_people.world import CAMERAS, TEST_SPLITS, World, shots


@dataclasses.dataclass(eq=False, kw_only=True)
class SyntheticPeopleConfig(tfds.core.BuilderConfig):
    """A named data set; `world` holds its sizes and all settings of the drawing."""

    world: World


TINY = World(
    train_people=8,
    test_people=6,
    train_images=96,
    query_same_images=18,
    query_changed_images=18,
    gallery_images=18,
)
# Few people and a few minutes: bodies differ more than adults' do and garments are close, so that
# a small network can learn shapes; light changes from walk to walk, so that colour is a poor guide
# even to people in the same clothes, as it is from camera to camera.
DEMO = World(
    train_people=48,
    test_people=36,
    train_images=1440,
    query_same_images=216,
    query_changed_images=252,
    gallery_images=216,
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
PRCC_SIZED = World(
    height=256,
    width=128,
    train_people=150,
    test_people=71,
    train_images=17896,
    query_same_images=3543,
    query_changed_images=3873,
    gallery_images=3384,
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
            name="prcc_sized", description="As large as PRCC, for benchmarks.", world=PRCC_SIZED
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        settings = dataclasses.asdict(self.builder_config.world)
        return self.dataset_info_from_configs(
            features=reid_features(), metadata=tfds.core.MetadataDict(world=settings)
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in ("train", *TEST_SPLITS)}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        world = self.builder_config.world
        for shot, image, mask in studio.develop_all(world, shots(world, split)):
            name = f"{shot.name}.jpg"
            yield (
                name,
                make_example(
                    image,
                    mask,
                    file_name=name,
                    identity=shot.identity,
                    camera=CAMERAS.index(shot.camera),
                    clothes=shot.clothes,
                ),
            )
