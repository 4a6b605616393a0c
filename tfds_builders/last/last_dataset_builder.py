"""LaST: people in films, far apart in place and time, in many clothes."""

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.layout import Folder, Layout, Published

_PERSON = r"(?P<identity>\d{1,9})"
_TRAIN_NAME = rf"\d+/{_PERSON}(?:_[^/]*?)?(?:_(?P<clothes>\d{{1,9}}))?"
_QUERY_NAME = rf"{_PERSON}(?:_[^/]*)?"
_GALLERY_NAME = rf"\d+/{_QUERY_NAME}"


class Builder(ReidBuilder):
    """TFDS builder of LaST; it tells outfits in training alone, and no cameras."""

    source = Layout(
        title="LaST",
        numbering_may_restart=True,
        folders=(
            Folder("train", "train", _TRAIN_NAME, published=Published(71_248, 5_000)),
            Folder("val_query", "val/query", _QUERY_NAME, published=Published(100, 56)),
            Folder("val_gallery", "val/gallery", _GALLERY_NAME, published=Published(21_279, 56)),
            Folder("query", "test/query", _QUERY_NAME, published=Published(10_176, 5_806)),
            Folder("gallery", "test/gallery", _GALLERY_NAME, published=Published(125_353, 5_806)),
        ),
    )
