"""The base of builders that read folders of images."""

from collections.abc import Callable
from typing import ClassVar

import tensorflow_datasets as tfds
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder

from tfds_builders.reid import listing, plan, workers, write
from tfds_builders.reid.features import reid_features
from tfds_builders.reid.layout import Source

_IMAGES_PER_SHARD = 2048


class ReidBuilder(FileReaderBuilder, skip_registration=True):
    """Prepares a data set that a `layout.Source` describes.

    With `tfds build --manual_dir=DIR`, DIR is the raw folder, and DIR/masks, DIR/faces and
    DIR/restored_faces, where they are there, the pictures beside it. A caller with more to say
    makes a plan itself and puts it into `plan`.

    The examples keep the order of their file names. They are written shard by shard as they are
    read: TFDS's own shuffling needs TensorFlow for more than 1 GB.

    Attributes:
        source: The data set's description.
        plan: What to write; made from the manual folder if None.
        advance: Called with the number of images written since its last call.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    The data set must be requested from its authors, see the README. Give its folder as
    --manual_dir; masks belong into a folder `masks` in it, with the images' paths and
    `.png` for an extension.
    """

    source: ClassVar[Source]

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.plan: plan.Plan | None = None
        self.advance: Callable[[int], None] = lambda images: None  # noqa: ARG005

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=reid_features(),
            metadata=tfds.core.MetadataDict(),
        )

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:  # noqa: ARG002
        planned = self.plan or plan.check(listing.find(self.source, dl_manager.manual_dir))
        self.info.metadata.update(planned.metadata)
        splits = [self._write(name, examples) for name, examples in planned.splits.items()]
        self.info.set_splits(tfds.core.SplitDict(splits))

    def _write(self, split: str, examples: list[plan.Example]) -> tfds.core.SplitInfo:
        template = self._get_filename_template(split_name=split)
        parts = [
            examples[start : start + _IMAGES_PER_SHARD]
            for start in range(0, len(examples), _IMAGES_PER_SHARD)
        ]
        shards = [
            write.Shard(
                str(template.sharded_filepath(shard_index=index, num_shards=len(parts))),
                self.info.file_format,
                part,
            )
            for index, part in enumerate(parts)
        ]
        size = 0
        with workers.parallel_map(len(examples)) as run:
            for shard, written in zip(shards, run(write.write_shard, shards), strict=True):
                size += written
                self.advance(len(shard.examples))
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=[len(part) for part in parts],
            num_bytes=size,
            filename_template=template,
        )
