"""Writing checked files as the shards of a data set.

The files are what TFDS's own writer would write, but for two things that take most of its time:
it asks the features how to serialise each value, and compresses what is compressed already.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from array_record.python import array_record_module
from tensorflow_datasets.core import file_adapters
from tensorflow_datasets.proto import tf_example_pb2

from tfds_builders.reid import decoding
from tfds_builders.reid.features import make_example
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
    """Writes a shard, one example at a time; gives the file's size in bytes.

    Raises:
        RawDataError: A file has changed since it was checked, or the shard cannot be written.
    """
    adapter = file_adapters.ADAPTER_FOR_FORMAT[shard.file_format]
    records = (serialized(example) for example in _examples(shard.examples))
    try:
        if shard.file_format == file_adapters.FileFormat.ARRAY_RECORD:
            _write_array_record(shard.path, records)
        else:
            adapter.write_examples(shard.path, enumerate(records))
        if adapter.num_examples(shard.path) != len(shard.examples):
            raise RawDataError(f"{shard.path} was not written whole; is the disk full?")
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RawDataError(f"cannot write {shard.path}: {reason}; is the disk full?") from error
    return pathlib.Path(shard.path).stat().st_size


def _write_array_record(path: str, records: Iterable[bytes]) -> None:
    writer = array_record_module.ArrayRecordWriter(path, "group_size:1,uncompressed")
    for record in records:
        writer.write(record)
    writer.close()


def serialized(example: dict[str, Any]) -> bytes:
    """A `make_example` of encoded files as `tf.train.Example`, for `reid_features`."""
    message = tf_example_pb2.Example()
    features = message.features.feature
    for key, value in example.items():
        if isinstance(value, bytes):
            features[key].bytes_list.value.append(value)
        elif isinstance(value, str):
            features[key].bytes_list.value.append(value.encode())
        else:
            features[key].int64_list.value.append(int(value))
    return message.SerializeToString()


def _examples(examples: list[Example]) -> Iterator[dict[str, Any]]:
    for example in examples:
        files = {column: _stored(column, example) for column in example.files}
        yield make_example(**files, file_name=example.name, **example.labels)


def _stored(column: str, example: Example) -> bytes:
    try:
        return decoding.stored(column, example.files, example.lossy_masks)
    except BadFileError as error:
        raise RawDataError(f"{example.files[column].path} {error}; run again") from error
