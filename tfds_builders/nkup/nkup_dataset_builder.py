"""NKUP: people on a campus over some months, by fifteen cameras."""

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.layout import Folder, Layout, Published

_NAME = r"(?P<identity>\d{1,9})_D(?P<clothes>\d{1,9})_C(?P<camera>\d{1,3})S[^/]*"


class Builder(ReidBuilder):
    """TFDS builder of NKUP; what someone wears on a recording day counts as an outfit."""

    source = Layout(
        title="NKUP",
        folders=(
            Folder("train", "bounding_box_train", _NAME, published=Published(5_336, 40)),
            Folder("query", "query", _NAME, published=Published(332, 39)),
            Folder("gallery", "bounding_box_test", _NAME, published=Published(4_070, 67)),
        ),
    )
