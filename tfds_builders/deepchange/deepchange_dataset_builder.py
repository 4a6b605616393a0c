"""DeepChange: people in the street over a year, seen by 17 cameras."""

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.layout import Folder, Layout, Published

_NAME = r"P(?P<identity>\d{1,9})_C(?P<camera>\d{1,3})_D(?P<clothes>\d{1,9})_.*"


def _folder(split: str, path: str, published: Published) -> Folder:
    return Folder(split, path, _NAME, listing=f"{path}-bbox.txt", published=published)


class Builder(ReidBuilder):
    """TFDS builder of DeepChange; what someone wears on a day counts as an outfit."""

    source = Layout(
        title="DeepChange",
        folders=(
            _folder("train", "train-set", Published(75_083, 450)),
            _folder("val_query", "val-set-query", Published(4_976)),
            _folder("val_gallery", "val-set-gallery", Published(17_865)),
            _folder("query", "test-set-query", Published(17_527, 521)),
            _folder("gallery", "test-set-gallery", Published(62_956, 521)),
        ),
    )
