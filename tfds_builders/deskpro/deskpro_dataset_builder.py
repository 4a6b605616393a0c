"""DeskPro's trees: images with faces, restored faces and masks of what is not clothes."""

import dataclasses
from typing import ClassVar

import tensorflow_datasets as tfds

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.layout import Folder, Layout

_WITH_C = r"(?P<identity>\d{1,9})_c(?P<camera>\d{1,9})_[^/]*"
_WITHOUT_C = r"(?P<identity>\d{1,9})_(?P<camera>\d{1,9})_[^/]*"
_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


class DeskProTree(Layout):
    """Images in `imgs`; what belongs to them under the same paths in folders beside that."""

    images_in = "imgs"
    beside: ClassVar = {"mask": "mask", "face": "lr_face", "face_restored": "hr_face"}
    needs_masks = False
    lossy_masks = True


@dataclasses.dataclass(eq=False, kw_only=True)
class DeskProConfig(tfds.core.BuilderConfig):
    """One of the three data sets; `pattern` is that of its file names."""

    title: str
    pattern: str


class Builder(ReidBuilder):
    """TFDS builder of the authors' trees.

    Of Celeb-reID-light the "camera" is the picture's number.
    """

    BUILDER_CONFIGS = [
        DeskProConfig(name=name, description=f"The tree of {title}.", title=title, pattern=pattern)
        for name, title, pattern in (
            ("prcc", "PRCC", _WITH_C),
            ("celeb_reid", "Celeb-reID", _WITH_C),
            ("celeb_reid_light", "Celeb-reID-light", _WITHOUT_C),
        )
    ]

    @property
    def source(self) -> DeskProTree:
        """The tree of this data set."""
        config = self.builder_config
        return DeskProTree(
            title=f"DeskPro's {config.title}",
            folders=tuple(
                Folder(split, f"imgs/{folder}", config.pattern)
                for split, folder in _FOLDERS.items()
            ),
        )
