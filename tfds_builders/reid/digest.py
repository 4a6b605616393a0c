"""The fingerprint of a data set: a hash of everything its examples hold, in their order.

Two data sets with equal fingerprints give equal examples, however they were written.
"""

import hashlib
import struct

_DIGEST_BYTES = 16


def content_digest(data: bytes | None) -> bytes:
    """Hash of an encoded file; of nothing (an absent mask) for None."""
    return _hash(b"" if data is None else data)


def example_digest(image: bytes, mask: bytes, labels: tuple[int, ...], file_name: str) -> bytes:
    """Hash of one example.

    Args:
        image: `content_digest` of the encoded image.
        mask: `content_digest` of the encoded mask, or of None.
        labels: identity, camera, clothes, tracklet.
        file_name: the example's name.
    """
    return _hash(image + mask + struct.pack(f"<{len(labels)}q", *labels) + file_name.encode())


def split_digest(examples: list[bytes]) -> str:
    """Hash of a split from its `example_digest`s in stored order."""
    return _hash(b"".join(examples)).hex()


def fingerprint(splits: dict[str, str]) -> str:
    """Hash of a data set from the `split_digest` of each of its splits."""
    lines = "".join(f"{name}:{digest}\n" for name, digest in sorted(splits.items()))
    return _hash(lines.encode()).hex()


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
