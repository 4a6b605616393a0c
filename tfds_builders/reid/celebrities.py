"""The layout that Celeb-reID and Celeb-reID-light share."""

from tfds_builders.reid.layout import Folder, Layout, Published

_NAME = r"(?P<identity>\d{1,9})_\d+_\d+"


def celeb_layout(title: str, train: Published, query: Published, gallery: Published) -> Layout:
    """Street snapshots of celebrities, who wear something else in every one.

    There are neither cameras nor outfits in the names. By convention every image is an outfit of
    its own, and queries and gallery are different cameras.
    """
    return Layout(
        title=title,
        own_clothes=True,
        numbering_may_restart=True,
        folders=(
            Folder("train", "train", _NAME, published=train),
            Folder("query", "query", _NAME, labels={"camera": 0}, published=query),
            Folder("gallery", "gallery", _NAME, labels={"camera": 1}, published=gallery),
        ),
    )
