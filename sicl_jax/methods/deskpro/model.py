"""DeskPro's networks: the face student, the body network with its attention, the face teacher.

docs/methods/deskpro.md, section 2; arXiv 2208.12023, section 2.
"""

import dataclasses

import jax
from flax import nnx

from sicl_jax.models.layers import Conv, KaimingNormal, freeze
from sicl_jax.models.lmbn import LMBN, HeadOutputs
from sicl_jax.models.osnet import OSNetConfig


class SpatialAttention(nnx.Module):
    """How much of each position is to be kept: two 1 x 1 convolutions, ReLU between, sigmoid."""

    def __init__(self, channels: int, *, dtype=None):
        make = {"init": KaimingNormal("fan_in"), "dtype": dtype}
        self.conv1 = Conv(channels, channels, 1, **make)
        self.conv2 = Conv(channels, 1, 1, **make)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, h, w, C) to (B, h, w, 1) in (0, 1)."""
        return jax.nn.sigmoid(self.conv2(jax.nn.relu(self.conv1(x))))


class BodyNetwork(LMBN):
    """An LMBN whose trunk's output is weighted by the attention."""

    def __init__(self, config: OSNetConfig, features: int, classes: int, *, dtype=None):
        super().__init__(config, features, classes, dtype=dtype)
        self.attention = SpatialAttention(config.channels[2], dtype=dtype)

    def attend(self, images: jax.Array, *, train: bool) -> tuple[HeadOutputs, jax.Array]:
        """Maps normalised images to the heads' outputs and the attention (B, H / 8, W / 8)."""
        x = self.trunk(images, train=train)
        attention = self.attention(x)
        return self.heads(x * attention, train=train), attention[..., 0]

    def __call__(self, images: jax.Array, *, train: bool) -> HeadOutputs:
        """Maps normalised images (B, H, W, 3) to the heads' outputs."""
        return self.attend(images, train=train)[0]


class DeskProModel(nnx.Module):
    """The three networks; what the forward mode does without is not built.

    Args:
        config: Shape of each network's OSNet.
        features: Size D of a head's features.
        classes: C.
        mode: `'all'`, `'face'` (no body network) or `'body'` (neither student nor teacher).
        dtype: Computation type of the convolutions.
    """

    def __init__(
        self, config: OSNetConfig, features: int, classes: int, *, mode: str = "all", dtype=None
    ):
        make = {"dtype": dtype}
        face = mode != "body"
        self.student = LMBN(config, features, classes, **make) if face else None
        self.body = BodyNetwork(config, features, classes, **make) if mode != "face" else None
        self.teacher = LMBN(config, features, classes, **make) if face else None
        if self.teacher is not None:
            freeze(self.teacher)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pictures:
    """A batch's normalised pictures.

    Attributes:
        image: (B, H, W, 3); None where only the face counts.
        face: (B, h, w, 3), low resolution; None where only the body counts.
        restored: (B, h, w, 3), the same faces restored.
        mask: (B, H, W), 1 what is to be kept, 0 what is to be shielded.
    """

    image: jax.Array | None = None
    face: jax.Array | None = None
    restored: jax.Array | None = None
    mask: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
    """What the networks make of a batch; None for those that there are not.

    Attributes:
        student: Of the low-resolution faces.
        teacher: Of the restored ones.
        body: Of the images.
        attention: (B, H / 8, W / 8), how much of each position the body network keeps.
    """

    student: HeadOutputs | None
    teacher: HeadOutputs | None
    body: HeadOutputs | None
    attention: jax.Array | None
