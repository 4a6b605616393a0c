"""LLCM: people in low light, seen by nine cameras that switch to infrared."""

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.features import INFRARED, VISIBLE
from tfds_builders.reid.layout import Published
from tfds_builders.reid.lists import ImageList, Lists


def _list(split: str, part: str, kind: str, modality: int) -> ImageList:
    name = rf"(?:test_)?{kind}/(?:cam\d+/)?\d+/(?P<identity>\d{{1,9}})_c(?P<camera>\d{{1,3}})_[^/]*"
    return ImageList(split, f"idx/{part}_{kind}.txt", name, labels={"modality": modality})


class Builder(ReidBuilder):
    """TFDS builder of LLCM; visible test images are the queries, infrared ones the gallery."""

    source = Lists(
        title="LLCM",
        lists=(
            _list("train", "train", "vis", VISIBLE),
            _list("train", "train", "nir", INFRARED),
            _list("query", "test", "vis", VISIBLE),
            _list("gallery", "test", "nir", INFRARED),
        ),
        published={
            "train": Published(16_946 + 13_975, 713),
            "query": Published(8_680, 351),
            "gallery": Published(7_166, 351),
        },
    )
