"""ResNet backbones (He et al. 2016) in torchvision's arrangement, NHWC."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sicl_jax.models.batch_norm import BatchNorm
from sicl_jax.models.layers import Constant, Conv, param, wide

_LEAST = 1e-6


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """Shape of a ResNet, and how its batch norms see a batch.

    Attributes:
        block: `'bottleneck'` (ResNet-50 and deeper) or `'basic'` (ResNet-18, 34).
        stage_sizes: Number of blocks in each stage.
        width: Channels of the stem and of the first stage's inner convolutions.
        last_stride: Stride of the last stage; 1 in re-identification, 2 in torchvision.
        batch_norm_parts: Parts of a batch that are normalised apart (`BatchNorm`).
    """

    block: str = "bottleneck"
    stage_sizes: Sequence[int] = (3, 4, 6, 3)
    width: int = 64
    last_stride: int = 1
    batch_norm_parts: int = 1

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> "ResNetConfig":
        """The shape that the config group `model` asks for (`fields.RESNET`)."""
        own = {field.name: model[field.name] for field in dataclasses.fields(cls)}
        return cls(**own | {"stage_sizes": tuple(own["stage_sizes"])})

    @property
    def num_features(self) -> int:
        """Channels of the last stage's output."""
        return self.width * 2 ** (len(self.stage_sizes) - 1) * BLOCKS[self.block].expansion

    @property
    def norm(self) -> Callable[..., BatchNorm]:
        """Makes the model's batch norms, its heads' too."""
        return functools.partial(BatchNorm, parts=self.batch_norm_parts)


class Downsample(nnx.Module):
    """The shortcut of a block that changes resolution or channels: 1 x 1 convolution and norm."""

    def __init__(self, features_in, features_out, stride, *, norm=BatchNorm, dtype=None):
        self.conv = Conv(features_in, features_out, 1, stride, dtype=dtype)
        self.bn = norm(features_out)

    def __call__(self, x, *, train):
        """Maps (B, H, W, features_in) to (B, H / stride, W / stride, features_out)."""
        return self.bn(self.conv(x), train=train)


class BasicBlock(nnx.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, features_in, width, stride, *, norm=BatchNorm, dtype=None):
        self.conv1 = Conv(features_in, width, 3, stride, dtype=dtype)
        self.bn1 = norm(width)
        self.conv2 = Conv(width, width, 3, 1, dtype=dtype)
        self.bn2 = norm(width)
        self.downsample = _shortcut(features_in, width, stride, norm, dtype=dtype)

    def __call__(self, x, *, train):
        """Maps (B, H, W, features_in) to (B, H / stride, W / stride, width)."""
        y = jax.nn.relu(self.bn1(self.conv1(x), train=train))
        y = self.bn2(self.conv2(y), train=train)
        if self.downsample is not None:
            x = self.downsample(x, train=train)
        return jax.nn.relu(x + y)


class Bottleneck(nnx.Module):
    """1 x 1, 3 x 3 (carrying the stride) and 1 x 1 convolutions and a shortcut."""

    expansion = 4

    def __init__(self, features_in, width, stride, *, norm=BatchNorm, dtype=None):
        features_out = width * self.expansion
        self.conv1 = Conv(features_in, width, 1, 1, dtype=dtype)
        self.bn1 = norm(width)
        self.conv2 = Conv(width, width, 3, stride, dtype=dtype)
        self.bn2 = norm(width)
        self.conv3 = Conv(width, features_out, 1, 1, dtype=dtype)
        self.bn3 = norm(features_out)
        self.downsample = _shortcut(features_in, features_out, stride, norm, dtype=dtype)

    def __call__(self, x, *, train):
        """Maps (B, H, W, features_in) to (B, H / stride, W / stride, 4 width)."""
        y = jax.nn.relu(self.bn1(self.conv1(x), train=train))
        y = jax.nn.relu(self.bn2(self.conv2(y), train=train))
        y = self.bn3(self.conv3(y), train=train)
        if self.downsample is not None:
            x = self.downsample(x, train=train)
        return jax.nn.relu(x + y)


BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


def _shortcut(features_in, features_out, stride, norm, *, dtype=None):
    if stride == 1 and features_in == features_out:
        return None
    return Downsample(features_in, features_out, stride, norm=norm, dtype=dtype)


class ResNet(nnx.Module):
    """A ResNet without its pooling and classifier: images to maps of features.

    Submodules carry torchvision's names: `conv1`, `bn1`, `layers[stage][block]`. Another model may
    run the parts one by one (`stem`, `run`), and copy or share blocks.

    Args:
        config: Its shape.
        dtype: Computation type of the convolutions, the weights' own if None; weights and
            statistics keep theirs.
    """

    def __init__(self, config: ResNetConfig, *, dtype=None):
        self.dtype = dtype
        block = BLOCKS[config.block]
        self.conv1 = Conv(3, config.width, 7, 2, dtype=dtype)
        self.bn1 = config.norm(config.width)
        stages = []
        features = config.width
        for stage, size in enumerate(config.stage_sizes):
            width = config.width * 2**stage
            is_last = stage == len(config.stage_sizes) - 1
            first_stride = 1 if stage == 0 else config.last_stride if is_last else 2
            blocks = []
            for index in range(size):
                stride = first_stride if index == 0 else 1
                blocks.append(block(features, width, stride, norm=config.norm, dtype=dtype))
                features = width * block.expansion
            stages.append(nnx.List(blocks))
        self.layers = nnx.List(stages)

    def stem(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images (B, H, W, 3) to (B, H / 4, W / 4, width)."""
        x = images.astype(self.dtype or images.dtype)
        return max_pool(jax.nn.relu(self.bn1(self.conv1(x), train=train)))

    def maps(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images (B, H, W, 3) to the last stage's output (B, h, w, D)."""
        x = self.stem(images, train=train)
        for stage in self.layers:
            x = run(stage, x, train=train)
        return x


def run(blocks: Sequence[nnx.Module], x: jax.Array, *, train: bool) -> jax.Array:
    """One block after another."""
    for block in blocks:
        x = block(x, train=train)
    return x


def average_pool(maps: jax.Array) -> jax.Array:
    """Means over all positions: (B, H, W, D) to (B, D), at least float32."""
    return jnp.mean(wide(maps), axis=(1, 2))


@jax.custom_jvp
def largest_pool(maps: jax.Array) -> jax.Array:
    """Maxima over all positions: (B, H, W, D) to (B, D), at least float32.

    The gradient goes to the first position of each maximum, as in torch. That of `jnp.max` looks
    for what equals the maximum: where XLA computes the maps once more for it and rounds otherwise,
    nothing does, and the gradient is 0 / 0.
    """
    return jnp.max(wide(maps), axis=(1, 2))


@largest_pool.defjvp
def _largest_pool_jvp(primals, tangents):
    shape = (len(primals[0]), -1, primals[0].shape[-1])
    maps, tangent = (wide(each[0]).reshape(shape) for each in (primals, tangents))
    first = jnp.argmax(maps, axis=1, keepdims=True)
    places = jax.lax.broadcasted_iota(first.dtype, maps.shape, 1)
    return largest_pool(*primals), jnp.sum(jnp.where(places == first, tangent, 0), axis=1)


class GeneralizedMean(nnx.Module):
    """GeM: g = (mean over positions of max(a, 1e-6)^p)^(1/p), one trained p for all channels.

    `docs/methods/cluster_contrast.md` section 2; Radenovic et al. 2018. No gradient reaches an
    activation below 1e-6.
    """

    def __init__(self, p: float = 3.0):
        self.p = param((1,), Constant(p))

    def __call__(self, maps: jax.Array) -> jax.Array:
        """Pools (B, H, W, D) to (B, D), at least float32."""
        maps = wide(maps)
        p = self.p[...]
        a = jnp.where(maps >= _LEAST, maps, _LEAST)
        # The formula in units of a channel's largest activation: powers of 1e-6 would underflow.
        unit = jax.lax.stop_gradient(jnp.max(a, axis=(1, 2), keepdims=True))
        return unit[:, 0, 0] * jnp.mean((a / unit) ** p, axis=(1, 2)) ** (1 / p)


def max_pool(x: jax.Array) -> jax.Array:
    """3 x 3 max pooling, stride 2, padding 1, of an input without negatives.

    Maxima of strided slices, first over rows, then over columns: the gradient of XLA's own
    pooling (select and scatter) takes six times as long on a CPU.
    """
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for axis in (1, 2):
        size = (x.shape[axis] - 1) // 2
        first, second, third = (
            jax.lax.slice_in_dim(x, start, start + 2 * size - 1, 2, axis) for start in range(3)
        )
        x = jnp.maximum(jnp.maximum(first, second), third)
    return x
