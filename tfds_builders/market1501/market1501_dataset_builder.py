"""Market-1501: people in front of a supermarket, seen by six cameras."""

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.features import UNKNOWN
from tfds_builders.reid.layout import Folder, Layout, Published

_NAME = r"(?P<identity>\d{4})_c(?P<camera>\d)s\d_[^/]*"
_JUNK = r"-1_[^/]*"
"""Parts of people, which the data set's authors have taken out of the test."""


def _distractors(labels: dict[str, int]) -> dict[str, int]:
    """Makes 0, which stands for background and for people outside the data set, unknown."""
    return labels | {"identity": labels["identity"] or UNKNOWN}


class Builder(ReidBuilder):
    """TFDS builder of Market-1501."""

    source = Layout(
        title="Market-1501",
        adjust=_distractors,
        folders=(
            Folder("train", "bounding_box_train", _NAME, published=Published(12_936, 751)),
            Folder("query", "query", _NAME, published=Published(3_368, 750)),
            Folder(
                "gallery", "bounding_box_test", _NAME, junk=_JUNK, published=Published(15_913, 750)
            ),
        ),
    )
