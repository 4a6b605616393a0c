"""RegDB: people seen by a visible-light and a thermal camera side by side."""

import dataclasses

import tensorflow_datasets as tfds

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.features import INFRARED, VISIBLE
from tfds_builders.reid.layout import Published
from tfds_builders.reid.lists import ImageList, Lists

TRIALS = range(1, 11)
# The lists number people anew, the folders do not.
_NAME = {
    "visible": r"Visible/(?P<identity>\d{1,9})/[^/]*",
    "thermal": r"Thermal/(?P<identity>\d{1,9})/[^/]*",
}
_LABELS = {
    "visible": {"camera": 0, "modality": VISIBLE},
    "thermal": {"camera": 1, "modality": INFRARED},
}


@dataclasses.dataclass(eq=False, kw_only=True)
class RegDbConfig(tfds.core.BuilderConfig):
    """One of the ten ways in which the data set's lists part its people."""

    trial: int


class Builder(ReidBuilder):
    """TFDS builder of RegDB, with a config for each trial."""

    BUILDER_CONFIGS = [
        RegDbConfig(name=f"trial_{trial}", description=f"Lists number {trial}.", trial=trial)
        for trial in TRIALS
    ]

    @property
    def source(self) -> Lists:
        """This trial's lists; visible test images are the queries, thermal ones the gallery."""
        trial = self.builder_config.trial
        return Lists(
            title="RegDB",
            lists=tuple(
                ImageList(split, f"idx/{part}_{kind}_{trial}.txt", _NAME[kind], "", _LABELS[kind])
                for split, part, kind in (
                    ("train", "train", "visible"),
                    ("train", "train", "thermal"),
                    ("query", "test", "visible"),
                    ("gallery", "test", "thermal"),
                )
            ),
            published={
                "train": Published(4_120, 206),
                "query": Published(2_060, 206),
                "gallery": Published(2_060, 206),
            },
        )
