"""Prepared data sets on disk: finding them, checking that they are whole, reading records."""

import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from array_record.python import array_record_module

from sicl_jax import schema
from sicl_jax.errors import UserError, one_line
from tfds_builders.reid import digest
from tfds_builders.reid.features import LABELS, PICTURES, UNKNOWN, reid_features

_INFO, _FEATURES = "dataset_info.json", "features.json"
METADATA = "metadata.json"
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_BATCH = 256

_CLASSES = frozenset(
    f"tensorflow_datasets.core.features.{name}"
    for name in (
        "features_dict.FeaturesDict",
        "image_feature.Image",
        "scalar.Scalar",
        "tensor_feature.Tensor",
        "text_feature.Text",
    )
)


def find_directory(name: str, data_dir: str | pathlib.Path) -> pathlib.Path:
    """Returns the folder of a prepared data set, its newest version.

    Args:
        name: `prcc`, or with a builder config `synthetic_people/demo`.
        data_dir: Where data sets were prepared.

    Raises:
        UserError: It is not there, or it has several configs and `name` gives none.
    """
    folder = pathlib.Path(data_dir).expanduser()
    if not folder.is_dir():
        raise UserError(f"data_dir {folder} is not a folder; prepare a data set there first")
    folder = folder / name
    versions = [path for path in _folders(folder) if _is_version(path)]
    if versions:
        return max(versions, key=lambda path: tuple(map(int, path.name.split("."))))
    configs = [path.name for path in _folders(folder) if any(map(_is_version, _folders(path)))]
    if configs:
        choices = ", ".join(f"{name}/{config}" for config in sorted(configs))
        raise UserError(f"data set {name} has several configs; name one of {choices}")
    raise UserError(f"no prepared data set {name} in {data_dir}; run `sicl-jax prepare {name}`")


class Store:
    """A prepared data set's records.

    Attributes:
        directory: Its folder.
        name: Builder name, such as `prcc`.
        config_name: Builder config, or None.
        full_name: `name`, or `name/config_name`.
        examples: Number of examples of each split.
        metadata: What the builder noted down beside the examples.
    """

    def __init__(self, directory: pathlib.Path):
        """Opens the data set and checks that all its files are whole.

        Raises:
            UserError: A file is missing, damaged or of another format.
        """
        # TFDS takes half a second to import; `sicl-jax --help` must not wait for it.
        import tensorflow_datasets as tfds

        self.directory = directory
        try:
            for file in (_INFO, _FEATURES):
                _check_classes(json.loads((directory / file).read_bytes()))
            self._builder = tfds.builder_from_directory(directory)
            info = self._builder.info
            file_format = info.file_format.file_suffix
            shards = {
                name: list(
                    zip(map(pathlib.Path, split.filepaths), split.shard_lengths, strict=True)
                )
                for name, split in info.splits.items()
            }
            _check_features(info.features)
        except Exception as error:  # TFDS raises what its parsers raise.
            raise damaged(directory / _INFO, error) from error
        self.metadata = _read_metadata(directory / METADATA)
        self.name = info.name
        self.config_name = info.config_name or None
        self.full_name = f"{self.name}/{self.config_name}" if self.config_name else self.name
        if file_format != "array_record":
            raise UserError(
                f"{directory} holds {file_format} files; build it with "
                "`--file_format=array_record` or run `sicl-jax prepare`"
            )
        self._decoders = {
            key: tfds.decode.SkipDecoding() for key in info.features if key in PICTURES
        }
        self._sources = {}
        self.examples = {name: sum(n for _, n in files) for name, files in shards.items()}
        for path, count in (shard for files in shards.values() for shard in files):
            if path.parent.resolve() != directory.resolve():
                raise damaged(directory / _INFO, f"{path} lies elsewhere")
            _check_shard(path, count)

    def records(self, split: str) -> Iterator[list[dict]]:
        """Yields the examples of a split in stored order, some hundreds at a time.

        A record has all columns of `make_example`, whichever the data set gives. Pictures are
        encoded files (bytes), None where there is none; labels are -1 where they are unknown;
        `file_name` is a str.

        Raises:
            UserError: A record is damaged.
        """
        for start in range(0, self.examples[split], _BATCH):
            yield self.read(split, range(start, min(start + _BATCH, self.examples[split])))

    def read(self, split: str, rows: Sequence[int]) -> list[dict]:
        """Returns some examples of a split, as `records` gives them."""
        try:
            if split not in self._sources:
                self._sources[split] = self._builder.as_data_source(split, decoders=self._decoders)
            return [_tidy(record) for record in self._sources[split].__getitems__(rows)]
        except Exception as error:  # TFDS raises what its parsers raise.
            raise damaged(self.directory, error) from error


def record_digest(record: dict) -> bytes:
    """Returns an example's contribution to the fingerprint of its data set."""
    files = {picture: record[picture] for picture in PICTURES if record[picture] is not None}
    return digest.example_digest(
        {picture: digest.content_digest(file) for picture, file in files.items()},
        {label: int(record[label]) for label in LABELS},
        record["file_name"],
    )


def damaged(path: pathlib.Path, reason: object) -> UserError:
    """Returns the error for a data set that is not what was prepared."""
    return UserError(f"{path} is damaged ({one_line(reason)}); prepare it again with --overwrite")


def _tidy(record: dict) -> dict:
    tidy = {"image": record["image"], "file_name": record["file_name"].decode()}
    for picture in PICTURES.keys() - {"image"}:
        tidy[f"has_{picture}"] = bool(record.get(f"has_{picture}", False))
        tidy[picture] = record[picture] if tidy[f"has_{picture}"] else None
    return tidy | {label: record.get(label, UNKNOWN) for label in LABELS}


def _check_shard(path: pathlib.Path, examples: int) -> None:
    # A shard cut off at a block boundary opens and reads as empty records, so count them.
    try:
        reader = array_record_module.ArrayRecordReader(str(path))
        found = reader.num_records()
        reader.close()
    except Exception as error:  # The module raises bare RuntimeErrors and others.
        raise damaged(path, error) from error
    if found != examples:
        raise damaged(path, f"it holds {found} of {examples} examples")


def _check_classes(value: Any) -> None:
    """Refuses descriptions of features that name other classes than ours.

    TFDS imports whatever module such a name is in, and so runs its code; it takes names from
    texts within texts too.

    Raises:
        ValueError: There is such a name, or such a text.
    """
    if isinstance(value, list):
        for item in value:
            _check_classes(item)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        name = key.replace("_", "").lower()
        is_class = name in ("pythonclassname", "type") and isinstance(item, str)
        if name == "jsonfeature" or (is_class and item not in _CLASSES):
            raise ValueError(f"a feature of another kind: {str(item)[:80]}")
        _check_classes(item)


def _check_features(features: Mapping[str, Any]) -> None:
    """Refuses other features than ours; all but the image and its name may be missing.

    Raises:
        ValueError: There is such a feature, or an example's image could not be told.
    """
    known, found = reid_features().get_tensor_info(), features.get_tensor_info()
    for column in found.keys() - known.keys():
        raise ValueError(f"a feature {column[:80]!r} that is not one of re-identification")
    for column in sorted(known):
        needed = column in ("image", "file_name")
        if column.startswith("has_"):
            needed = column.removeprefix("has_") in found
        if column not in found and needed:
            raise ValueError(f"no feature {column!r}")
        if column in found and found[column] != known[column]:
            raise ValueError(f"its feature {column!r} is not that of re-identification")


def _read_metadata(path: pathlib.Path) -> dict:
    """Returns what the builder noted down; empty where it did not."""
    if not path.exists():
        return {}
    try:
        metadata = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    if not _is_metadata(metadata):
        raise damaged(path, "it holds other things than were noted down")
    return metadata


# The fingerprint names a folder; where there are tables it has to be there.
_TABLE = schema.table(schema.table(schema.maybe(schema.count(-(2**63)))))
_FINGERPRINT = {"fingerprint": schema.text("[0-9a-f]{32}")}
_LARGEST = 2**31 - 1
_METADATA = schema.record(
    {},
    {
        "fingerprint": schema.text("([0-9a-f]{32})?"),
        "split_digests": schema.table(schema.text()),
        "left_out": schema.count(),
        "card": _TABLE,
        "published": _TABLE,
        "changing_identities": schema.array(schema.count()),
        "draws": schema.table(schema.array(schema.array(schema.count(-1, _LARGEST)))),
    },
)


def _is_metadata(metadata: Any) -> bool:
    """Returns whether this may be what a builder notes down."""
    has_tables = _METADATA(metadata) and metadata.keys() & {"card", "published"}
    return schema.record(_FINGERPRINT if has_tables else {})(metadata) and _METADATA(metadata)


def _folders(path: pathlib.Path) -> list[pathlib.Path]:
    return [entry for entry in path.iterdir() if entry.is_dir()] if path.is_dir() else []


def _is_version(path: pathlib.Path) -> bool:
    return bool(_VERSION.fullmatch(path.name)) and (path / _INFO).is_file()
