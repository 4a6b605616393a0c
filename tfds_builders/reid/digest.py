"""The fingerprint of a data set: a hash of everything its examples hold, in their order.

Two data sets with equal fingerprints give equal examples, however they were written.
"""

import hashlib
import struct
from collections.abc import Mapping

from tfds_builders.reid.features import UNKNOWN

_DIGEST_BYTES = 16
_FIRST_PICTURES = ("image", "mask")
_FIRST_LABELS = ("identity", "camera", "clothes", "tracklet")


def content_digest(data: bytes | None) -> bytes:
    """Returns the hash of an encoded file; of nothing (an absent picture) for None."""
    return _hash(b"" if data is None else data)


def example_digest(
    pictures: Mapping[str, bytes], labels: Mapping[str, int], file_name: str
) -> bytes:
    """Returns the hash of one example.

    Columns that came later count only where they are known, so that data sets without them keep
    their fingerprints.

    Args:
        pictures: `content_digest` of the pictures that there are, by column.
        labels: All labels by column, -1 where unknown.
        file_name: The example's name.
    """
    absent = content_digest(None)
    parts = [pictures.get(column, absent) for column in _FIRST_PICTURES]
    parts += [struct.pack("<q", labels[label]) for label in _FIRST_LABELS]
    parts.append(file_name.encode())
    later = {column: hash_ for column, hash_ in pictures.items() if column not in _FIRST_PICTURES}
    later |= {
        label: struct.pack("<q", value)
        for label, value in labels.items()
        if label not in _FIRST_LABELS and value != UNKNOWN
    }
    parts += [f"\0{column}\0".encode() + later[column] for column in sorted(later)]
    return _hash(b"".join(parts))


def split_digest(examples: list[bytes]) -> str:
    """Returns the hash of a split from its `example_digest`s in stored order."""
    return _hash(b"".join(examples)).hex()


def fingerprint(splits: dict[str, str]) -> str:
    """Returns the hash of a data set from the `split_digest` of each of its splits."""
    lines = "".join(f"{name}:{digest}\n" for name, digest in sorted(splits.items()))
    return _hash(lines.encode()).hex()


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
