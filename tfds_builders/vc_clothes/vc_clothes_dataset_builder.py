"""VC-Clothes: people of a video game, seen by four cameras in up to three outfits."""

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.layout import Folder, Layout, Published

_NAME = r"(?P<identity>\d{1,9})-(?P<camera>\d{1,3})-(?P<clothes>\d{1,9})-\d+"


class Builder(ReidBuilder):
    """TFDS builder of VC-Clothes; cameras bear the numbers of the file names, 1 to 4."""

    source = Layout(
        title="VC-Clothes",
        folders=(
            Folder("train", "train", _NAME, published=Published(9_449, 256)),
            Folder("query", "query", _NAME, published=Published(1_020, 256)),
            Folder("gallery", "gallery", _NAME, published=Published(8_591, 256)),
        ),
    )
