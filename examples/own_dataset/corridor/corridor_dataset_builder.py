"""People in a corridor, seen by some cameras on some days."""

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.layout import Folder, Layout, Published

# person-17_camera-2_day-1_000345.jpg
_NAME = r"person-(?P<identity>\d+)_camera-(?P<camera>\d+)_day-(?P<clothes>\d+)_\d+"


class Builder(ReidBuilder):
    """TFDS builder of the corridor's people, who wear other clothes every day."""

    source = Layout(
        title="Corridor",
        folders=(
            Folder("train", "train", _NAME, published=Published(18, 3)),
            Folder("query", "query", _NAME),
            Folder("gallery", "gallery", _NAME),
        ),
    )
