"""PRCC: people seen by three cameras, in other clothes in the third."""

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.layout import Folder, Layout, Published

_TRAIN_NAME = r"(?P<identity>\d{1,9})/(?P<camera>[ABC])_[^/]*"
_TEST_NAME = r"(?P<identity>\d{1,9})/[^/]*"
_CLOTHES_BY_CAMERA = (0, 0, 1)
"""Cameras A and B see the same clothes, C another outfit."""


def _add_clothes(labels: dict[str, int]) -> dict[str, int]:
    return labels | {"clothes": _CLOTHES_BY_CAMERA[labels["camera"]]}


class Builder(ReidBuilder):
    """TFDS builder of PRCC."""

    source = Layout(
        title="PRCC",
        adjust=_add_clothes,
        folders=(
            Folder("train", "rgb/train", _TRAIN_NAME, published=Published(17_896, 150)),
            Folder("val", "rgb/val", _TRAIN_NAME, optional=True),
            Folder(
                "query_same",
                "rgb/test/B",
                _TEST_NAME,
                labels={"camera": 1},
                published=Published(3_543, 71),
            ),
            Folder(
                "query_changed",
                "rgb/test/C",
                _TEST_NAME,
                labels={"camera": 2},
                published=Published(3_873, 71),
            ),
            Folder(
                "gallery",
                "rgb/test/A",
                _TEST_NAME,
                labels={"camera": 0},
                published=Published(3_384, 71),
            ),
        ),
    )
