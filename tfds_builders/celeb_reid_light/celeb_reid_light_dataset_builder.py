"""Celeb-reID-light: street snapshots of celebrities."""

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.celebrities import celeb_layout
from tfds_builders.reid.layout import Published


class Builder(ReidBuilder):
    """TFDS builder of Celeb-reID-light."""

    source = celeb_layout(
        "Celeb-reID-light",
        train=Published(9_021, 490),
        query=Published(887, 100),
        gallery=Published(934, 100),
    )
