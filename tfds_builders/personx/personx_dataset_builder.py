"""PersonX: people rendered by a game engine, seen by six cameras."""

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.layout import Folder, Layout, Published

_NAME = r"(?P<identity>\d{1,9})_c(?P<camera>\d{1,3})[^\d/][^/]*"


class Builder(ReidBuilder):
    """TFDS builder of PersonX; cameras bear the numbers of the file names."""

    source = Layout(
        title="PersonX",
        folders=(
            Folder("train", "bounding_box_train", _NAME, published=Published(9_840, 410)),
            Folder("query", "query", _NAME, published=Published(5_136, 856)),
            Folder("gallery", "bounding_box_test", _NAME, published=Published(30_816, 856)),
        ),
    )
