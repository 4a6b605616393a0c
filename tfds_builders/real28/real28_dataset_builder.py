"""Real28: 28 people in changing clothes, for testing alone."""

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.layout import Folder, Layout

_NAME = r"(?P<identity>\d{1,9})_(?P<camera>\d{1,3})_(?P<clothes>\d{1,9})_\d+"


class Builder(ReidBuilder):
    """TFDS builder of Real28."""

    source = Layout(
        title="Real28",
        folders=(
            Folder("query", "query", _NAME),
            Folder("gallery", "gallery", _NAME),
        ),
    )
