"""Writing checked files as the shards of a data set."""

import dataclasses
import pathlib
from collections.abc import Iterator

from tensorflow_datasets.core import example_serializer, file_adapters
from tensorflow_datasets.core import writer as writer_lib

from tfds_builders.reid.decoding import File, stored_image, stored_mask
from tfds_builders.reid.features import make_example, reid_features
from tfds_builders.reid.images import BadFileError
from tfds_builders.reid.plan import Example
from tfds_builders.reid.problems import RawDataError


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard to write: its file, that file's format and the examples in order."""

    path: str
    file_format: file_adapters.FileFormat
    examples: list[Example]


def write_shard(shard: Shard) -> int:
    """Writes a shard as TFDS does, but one example at a time; gives the file's size in bytes.

    Raises:
        RawDataError: a file has changed since it was checked, or the shard cannot be written.
    """
    try:
        writer_lib.ExampleWriter(shard.file_format).write(shard.path, _serialized(shard.examples))
        adapter = file_adapters.ADAPTER_FOR_FORMAT[shard.file_format]
        if adapter.num_examples(shard.path) != len(shard.examples):
            raise RawDataError(f"{shard.path} was not written whole; is the disk full?")
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RawDataError(f"cannot write {shard.path}: {reason}; is the disk full?") from error
    return pathlib.Path(shard.path).stat().st_size


def _serialized(examples: list[Example]) -> Iterator[tuple[int, bytes]]:
    features = reid_features()
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    for key, example in enumerate(examples):
        identity, camera, clothes, tracklet = example.labels
        values = make_example(
            _read(stored_image, example.image),
            _read(stored_mask, example.mask, example.image) if example.mask else None,
            file_name=example.name,
            identity=identity,
            camera=camera,
            clothes=clothes,
            tracklet=tracklet,
        )
        yield key, serializer.serialize_example(features.encode_example(values))


def _read(stored, file: File, *more: File) -> bytes:
    try:
        return stored(file, *more)
    except BadFileError as error:
        raise RawDataError(f"{file.path} {error}; run again") from error
