"""OSNet, omni-scale networks (Zhou, Yang, Cavallaro, Xiang; ICCV 2019, arXiv 1905.00953), NHWC.

A block runs streams of 1 to 4 depthwise-separable convolutions beside each other, scales their
channels by one gate and adds them up.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sicl_jax.models.batch_norm import BatchNorm
from sicl_jax.models.layers import (
    ZEROS,
    Conv,
    Initializer,
    KaimingNormal,
    SideBySide,
    Uniform,
    freeze,
)
from sicl_jax.models.resnet import max_pool, run

_KAIMING = KaimingNormal("fan_out")
# How many convolutions each stream of a block has, from the shortest.
LENGTHS = {"intended": {"a": 1, "b": 2, "c": 3, "d": 4}, "released": {"a": 1, "c": 3, "d": 4}}


@dataclasses.dataclass(frozen=True)
class OSNetConfig:
    """Shape of an OSNet; the defaults are OSNet x1.0.

    Attributes:
        blocks: Number of blocks in conv2, conv3 and conv4.
        channels: Of the stem and of the three stages' outputs.
        streams: `'intended'` runs streams of 1, 2, 3 and 4 convolutions. `'released'` is DeskPro's
            published code, which calls the stream of one (`conv2a`) again in place of that of two
            (`conv2b`), whose weights are never used nor trained (docs/methods/deskpro.md).
    """

    blocks: tuple[int, int, int] = (2, 2, 2)
    channels: tuple[int, int, int, int] = (64, 256, 384, 512)
    streams: str = "intended"


class ConvNorm(nnx.Module):
    """A convolution, batch norm and, unless it is linear, ReLU."""

    def __init__(
        self,
        features_in: int,
        features_out: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        linear: bool = False,
        init: Initializer = _KAIMING,
        dtype=None,
    ):
        self.linear = linear
        self.conv = Conv(features_in, features_out, kernel, stride, init=init, dtype=dtype)
        self.bn = BatchNorm(features_out)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (B, H, W, features_in) to (B, H / stride, W / stride, features_out)."""
        x = self.bn(self.conv(x), train=train)
        return x if self.linear else jax.nn.relu(x)


class LightConv(nnx.Module):
    """A 1 x 1 and a depthwise 3 x 3 convolution, batch norm and ReLU."""

    def __init__(self, features: int, *, init: Initializer, dtype=None):
        self.conv1 = Conv(features, features, 1, init=init, dtype=dtype)
        self.conv2 = Conv(features, features, 3, groups=features, init=init, dtype=dtype)
        self.bn = BatchNorm(features)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (B, H, W, C) to the same shape."""
        return jax.nn.relu(self.bn(self.conv2(self.conv1(x)), train=train))


class Gate(nnx.Module):
    """What to scale each channel by, numbers in (0, 1) that follow from all channels' means."""

    def __init__(self, features: int, *, init: Initializer, dtype=None):
        hidden = features // 16

        def conv(features_in: int, features_out: int) -> Conv:
            torch_default = Uniform(1 / math.sqrt(features_in))
            bias = torch_default if isinstance(init, Uniform) else ZEROS
            make = {"bias": True, "init": init, "bias_init": bias, "dtype": dtype}
            return Conv(features_in, features_out, 1, **make)

        self.fc1 = conv(features, hidden)
        self.fc2 = conv(hidden, features)

    def __call__(self, means: jax.Array) -> jax.Array:
        """Maps (..., 1, 1, C) to the same shape."""
        return jax.nn.sigmoid(self.fc2(jax.nn.relu(self.fc1(means))))


class Block(nnx.Module):
    """An OSNet block: four streams, one gate for all of them, and a shortcut.

    Args:
        features_in: Channels of the input.
        features_out: Channels of the output; streams have a quarter of them.
        streams: As in `OSNetConfig`.
        init: Of all kernels. The gate's biases begin at 0, or as torch draws them where the
            kernels do (`Uniform()`).
        dtype: Computation type; the weights' own if None.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        *,
        streams: str,
        init: Initializer = _KAIMING,
        dtype=None,
    ):
        features = features_out // 4
        make = {"init": init, "dtype": dtype}
        self.streams = streams
        self.conv1 = ConvNorm(features_in, features, **make)
        lengths = LENGTHS[streams]
        for depth in range(max(lengths.values())):
            parts = [
                f"conv2{stream}.{depth}" for stream, length in lengths.items() if length > depth
            ]
            setattr(self, f"conv2_{depth}", SideBySide(lambda: LightConv(features, **make), parts))
        if streams == "released":
            self.conv2b = nnx.List(LightConv(features, **make) for _ in range(2))
            freeze(self.conv2b)
        self.gate = Gate(features, **make)
        self.conv3 = ConvNorm(features, features_out, linear=True, **make)
        self.downsample = (
            None
            if features_in == features_out
            else ConvNorm(features_in, features_out, linear=True, **make)
        )

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (B, H, W, features_in) to (B, H, W, features_out)."""
        lengths = list(LENGTHS[self.streams].values())
        norm = self.conv2_0.module.bn
        before = norm.mean[...], norm.var[...]
        a = self.conv1(x, train=train)
        y = jnp.broadcast_to(a, (len(lengths), *a.shape))
        ends = []
        for depth in range(max(lengths)):
            # Streams are sorted by length: those that go on are the last ones.
            layers = getattr(self, f"conv2_{depth}")
            y = layers(y[-len(layers.parts) :], train=train)
            if depth + 1 in lengths:
                ends.append(y[0])
        twice = self.streams == "released"
        if train and twice:
            # The second call moves the running statistics of `conv2a` by another step.
            is_a = np.arange(len(lengths))[:, None] == 0
            for statistic, old in zip((norm.mean, norm.var), before, strict=True):
                new = statistic[...]
                statistic.set_value(new + is_a * (1 - norm.momentum) * (new - old))
        gates = self.gate(jnp.stack([jnp.mean(end, (1, 2), keepdims=True) for end in ends]))
        scaled = [end * gate for end, gate in zip(ends, gates, strict=True)]
        y = sum(scaled[1:], start=(1 + twice) * scaled[0])
        shortcut = x if self.downsample is None else self.downsample(x, train=train)
        return jax.nn.relu(self.conv3(y, train=train) + shortcut)


class Stage(nnx.Module):
    """Blocks of one size, and the transition that halves the resolution.

    Args:
        features_in: Channels of the input.
        features_out: Channels of the blocks.
        blocks: How many there are.
        transition: Whether a 1 x 1 convolution and average pooling follow.
        streams: As in `OSNetConfig`.
        dtype: Computation type.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        blocks: int,
        *,
        transition: bool,
        streams: str,
        dtype=None,
    ):
        self.blocks = nnx.List(
            Block(
                features_in if i == 0 else features_out, features_out, streams=streams, dtype=dtype
            )
            for i in range(blocks)
        )
        self.transition = ConvNorm(features_out, features_out, dtype=dtype) if transition else None

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (B, H, W, features_in) to (B, H / 2, W / 2, features_out), or (B, H, W, ...)."""
        x = run(self.blocks, x, train=train)
        return x if self.transition is None else halve(self.transition(x, train=train))


class OSNet(nnx.Module):
    """An OSNet without its pooling and classifier: images to maps of features.

    Args:
        config: Its shape.
        dtype: Computation type of the convolutions; the weights' own if None.
    """

    def __init__(self, config: OSNetConfig, *, dtype=None):
        stem, *widths = config.channels
        make = {"streams": config.streams, "dtype": dtype}
        self.conv1 = ConvNorm(3, stem, 7, 2, dtype=dtype)
        self.conv2 = Stage(stem, widths[0], config.blocks[0], transition=True, **make)
        self.conv3 = Stage(widths[0], widths[1], config.blocks[1], transition=True, **make)
        self.conv4 = Stage(widths[1], widths[2], config.blocks[2], transition=False, **make)
        self.conv5 = ConvNorm(widths[2], widths[2], dtype=dtype)

    def maps(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images (B, H, W, 3) to (B, H / 16, W / 16, channels[3])."""
        x = max_pool(self.conv1(images, train=train))
        return run((self.conv2, self.conv3, self.conv4, self.conv5), x, train=train)


def halve(x: jax.Array) -> jax.Array:
    """2 x 2 average pooling of (B, H, W, C); an odd last row or column is left out, as in torch."""
    batch, height, width, channels = x.shape
    height, width = height // 2, width // 2
    cells = x[:, : 2 * height, : 2 * width].reshape(batch, height, 2, width, 2, channels)
    return jnp.mean(cells, axis=(2, 4))
