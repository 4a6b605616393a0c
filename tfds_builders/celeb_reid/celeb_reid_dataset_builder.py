"""Celeb-reID: street snapshots of celebrities."""

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.celebrities import celeb_layout
from tfds_builders.reid.layout import Published


class Builder(ReidBuilder):
    """TFDS builder of Celeb-reID."""

    source = celeb_layout(
        "Celeb-reID",
        train=Published(20_208, 632),
        query=Published(2_972, 420),
        gallery=Published(11_006, 420),
    )
