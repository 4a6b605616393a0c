"""CLIP's networks (Radford et al. 2021): the ResNet for images, in parts, and the text transformer.

The image network is a stem, residual layers and an attention pool, so that another model may copy
the one and share the other. `docs/methods/cclnet.md` section 2 has the formulas.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sicl_jax.models.batch_norm import BatchNorm
from sicl_jax.models.layers import ONES, ZEROS, Conv, Linear, Normal, param, wide

_HEAD = 64
_KERNEL = 3


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """Shape of a CLIP with a ResNet.

    Attributes:
        stage_sizes: Number of blocks in each layer.
        width: w, channels of the stem and of the first layer's inner convolutions.
        embed_dim: Size of the projections that images and texts share.
        text_width: Width of the text transformer.
        text_layers: Its number of blocks.
        context: Its number of positions.
    """

    stage_sizes: Sequence[int] = (3, 4, 6, 3)
    width: int = 64
    embed_dim: int = 1024
    text_width: int = 512
    text_layers: int = 12
    context: int = 77

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> Self:
        """The shape that a config's group `model` gives."""
        names = [field.name for field in dataclasses.fields(cls)]
        shape = {name: model[name] for name in names}
        return cls(**shape | {"stage_sizes": tuple(model["stage_sizes"])})

    @property
    def num_features(self) -> int:
        """Channels of the last layer's map."""
        return self.width * 2 ** (len(self.stage_sizes) - 1) * Bottleneck.expansion


def average_pool_2x2(x: jax.Array) -> jax.Array:
    """Means of 2 x 2 squares: (B, H, W, C) to (B, H // 2, W // 2, C); an odd last line is left."""
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    squares = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return jnp.mean(wide(squares), axis=(2, 4)).astype(x.dtype)


class Stem(nnx.Module):
    """Three 3 x 3 convolutions, the first of stride 2, and a pooling.

    Args:
        width: Channels of the output; half as many after the first two convolutions.
        dtype: Computation type of the convolutions, the weights' own if None.
    """

    def __init__(self, width: int, *, dtype=None):
        self.dtype = dtype
        self.conv1 = Conv(3, width // 2, _KERNEL, 2, dtype=dtype)
        self.bn1 = BatchNorm(width // 2)
        self.conv2 = Conv(width // 2, width // 2, _KERNEL, dtype=dtype)
        self.bn2 = BatchNorm(width // 2)
        self.conv3 = Conv(width // 2, width, _KERNEL, dtype=dtype)
        self.bn3 = BatchNorm(width)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps normalised images (B, H, W, 3) to (B, H / 4, W / 4, width)."""
        x = images.astype(self.dtype or images.dtype)
        x = jax.nn.relu(self.bn1(self.conv1(x), train=train))
        x = jax.nn.relu(self.bn2(self.conv2(x), train=train))
        x = jax.nn.relu(self.bn3(self.conv3(x), train=train))
        return average_pool_2x2(x)


class Downsample(nnx.Module):
    """The shortcut of a layer's first block: pooling, 1 x 1 convolution and norm."""

    def __init__(self, features_in: int, features_out: int, stride: int, *, dtype=None):
        self.stride = stride
        self.conv = Conv(features_in, features_out, 1, dtype=dtype)
        self.bn = BatchNorm(features_out)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (B, H, W, features_in) to (B, H / stride, W / stride, features_out)."""
        if self.stride == 2:
            x = average_pool_2x2(x)
        return self.bn(self.conv(x), train=train)


class Bottleneck(nnx.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions and a shortcut; a pooling takes the stride's place."""

    expansion = 4

    def __init__(self, features_in: int, width: int, stride: int, *, dtype=None):
        features_out = width * self.expansion
        self.stride = stride
        self.conv1 = Conv(features_in, width, 1, dtype=dtype)
        self.bn1 = BatchNorm(width)
        self.conv2 = Conv(width, width, _KERNEL, dtype=dtype)
        self.bn2 = BatchNorm(width)
        self.conv3 = Conv(width, features_out, 1, dtype=dtype)
        self.bn3 = BatchNorm(features_out)
        needs_shortcut = stride > 1 or features_in != features_out
        self.downsample = (
            Downsample(features_in, features_out, stride, dtype=dtype) if needs_shortcut else None
        )

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (B, H, W, features_in) to (B, H / stride, W / stride, 4 width)."""
        y = jax.nn.relu(self.bn1(self.conv1(x), train=train))
        y = jax.nn.relu(self.bn2(self.conv2(y), train=train))
        if self.stride == 2:
            y = average_pool_2x2(y)
        y = self.bn3(self.conv3(y), train=train)
        if self.downsample is not None:
            x = self.downsample(x, train=train)
        return jax.nn.relu(x + y)


def residual_layers(config: ClipConfig, *, last_stride: int = 1, dtype=None) -> nnx.List:
    """The residual layers behind the stem, as lists of blocks (run by `resnet.run`).

    Args:
        config: Their shape.
        last_stride: Stride of the last layer; 1 in re-identification, 2 in CLIP.
        dtype: Computation type of the convolutions.
    """
    layers = []
    features = config.width
    for number, size in enumerate(config.stage_sizes):
        width = config.width * 2**number
        is_last = number == len(config.stage_sizes) - 1
        first_stride = 1 if number == 0 else last_stride if is_last else 2
        blocks = []
        for index in range(size):
            stride = first_stride if index == 0 else 1
            blocks.append(Bottleneck(features, width, stride, dtype=dtype))
            features = width * Bottleneck.expansion
        layers.append(nnx.List(blocks))
    return nnx.List(layers)


def grid(image_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the last layer's map, at `last_stride` 1, for images of this size."""
    height, width = ((side + 1) // 2 // 8 for side in image_size)
    return height, width


def generalized_mean(maps: jax.Array) -> jax.Array:
    """(mean(x^3) + 1e-12)^(1/3) over positions: (B, H, W, D) to (B, D), at least float32."""
    cubes = jnp.mean(wide(maps) ** 3, axis=(1, 2))
    return (cubes + 1e-12) ** (1 / 3)


class AttentionPool(nnx.Module):
    """Multi-head attention of a map's mean over the map and itself.

    Args:
        features_in: Channels D of the map, a multiple of 64.
        features_out: Size of the output.
        positions: Height times width of the map.
    """

    def __init__(self, features_in: int, features_out: int, positions: int):
        init = Normal(features_in**-0.5)
        self.heads = features_in // _HEAD
        self.position = param((1 + positions, features_in), init)
        self.query = Linear(features_in, features_in, init=init)
        self.key = Linear(features_in, features_in, init=init)
        self.value = Linear(features_in, features_in, init=init)
        self.output = Linear(features_in, features_out, init=init)

    def __call__(self, maps: jax.Array) -> jax.Array:
        """Maps (B, h, w, D) to (B, features_out), at least float32.

        With one query, keys and values need not be made for every position: q . (K x) =
        (K^T q) . x, and the mean of V x is V times the mean of x. The key's bias adds the same to
        all scores of a head, so it has no effect and its gradient is 0.
        """
        batch, *_, size = maps.shape
        dtype = maps.dtype
        tokens = wide(maps.reshape(batch, -1, size))
        tokens = jnp.concatenate([jnp.mean(tokens, axis=1, keepdims=True), tokens], axis=1)
        tokens = (tokens + self.position[...]).astype(dtype)
        query = self.query(tokens[:, 0]).reshape(batch, self.heads, _HEAD) / np.sqrt(_HEAD)
        keys = self.key.kernel[...].astype(dtype).reshape(size, self.heads, _HEAD)
        seen = jnp.einsum("bhd,chd->bhc", query.astype(dtype), keys)
        weights = jax.nn.softmax(wide(jnp.einsum("bhc,btc->bht", seen, tokens)))
        mean = jnp.einsum("bht,btc->bhc", weights.astype(dtype), tokens)
        values = self.value.kernel[...].astype(dtype).reshape(size, self.heads, _HEAD)
        pooled = jnp.einsum("bhc,chd->bhd", mean, values).reshape(batch, size)
        return wide(self.output(pooled + self.value.bias[...].astype(dtype)))


def resize_positions(table: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An attention pool's position embedding for a map of another size.

    Bilinear with half-pixel centres, without antialiasing, edges clamped; row 0, the mean's, is
    kept (`docs/methods/cclnet.md` section 2).

    Args:
        table: (1 + n * n, D), of a square map.
        size: Height and width of the new map.

    Returns:
        (1 + height * width, D) of the table's type.
    """
    side = int(round((len(table) - 1) ** 0.5))
    square = table[1:].reshape(side, side, -1).astype(np.float64)
    for axis, length in enumerate(size):
        place = np.clip((np.arange(length) + 0.5) * side / length - 0.5, 0, side - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, side - 1)
        share = np.expand_dims(place - low, [a for a in range(3) if a != axis])
        square = square.take(low, axis) * (1 - share) + square.take(high, axis) * share
    flat = square.reshape(-1, table.shape[1])
    return np.concatenate([table[:1], flat.astype(table.dtype)])


class LayerNorm(nnx.Module):
    """Normalisation of the last axis, epsilon 1e-5, with scale and bias."""

    def __init__(self, features: int):
        self.scale = param((features,), ONES, trained=False)
        self.bias = param((features,), ZEROS, trained=False)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises (..., features); computes in float32 at least."""
        y = wide(x)
        mean = jnp.mean(y, axis=-1, keepdims=True)
        var = jnp.var(y, axis=-1, keepdims=True)
        y = (y - mean) * jax.lax.rsqrt(var + 1e-5)
        return (y * self.scale[...] + self.bias[...]).astype(x.dtype)


class TextBlock(nnx.Module):
    """A pre-norm transformer block: causal attention, then a perceptron with CLIP's quick GELU.

    Args:
        width: A multiple of 64, the size of a head.
        layers: Of the whole transformer; decides how its weights are drawn.
    """

    def __init__(self, width: int, layers: int):
        residual = Normal(width**-0.5 * (2 * layers) ** -0.5)
        self.heads = width // _HEAD
        self.ln_1 = LayerNorm(width)
        self.qkv = Linear(width, 3 * width, init=Normal(width**-0.5), trained=False)
        self.out = Linear(width, width, init=residual, trained=False)
        self.ln_2 = LayerNorm(width)
        self.fc = Linear(width, 4 * width, init=Normal((2 * width) ** -0.5), trained=False)
        self.proj = Linear(4 * width, width, init=residual, trained=False)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, T, width) to the same shape."""
        x = x + self.out(self._attend(self.qkv(self.ln_1(x))))
        y = self.fc(self.ln_2(x))
        return x + self.proj(y * jax.nn.sigmoid(1.702 * y))

    def _attend(self, qkv: jax.Array) -> jax.Array:
        batch, length, _ = qkv.shape
        query, key, value = jnp.moveaxis(qkv.reshape(batch, length, 3, self.heads, _HEAD), 2, 0)
        scores = wide(jnp.einsum("bqhd,bkhd->bhqk", query, key)) / np.sqrt(_HEAD)
        seen = np.tril(np.ones((length, length), bool))
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf)).astype(qkv.dtype)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(batch, length, -1)


class TextTransformer(nnx.Module):
    """CLIP's text encoder behind its token embedding; none of its weights is trained.

    Args:
        config: Its shape.
    """

    def __init__(self, config: ClipConfig):
        width = config.text_width
        self.position = param((config.context, width), Normal(0.01), trained=False)
        self.blocks = nnx.List(
            [TextBlock(width, config.text_layers) for _ in range(config.text_layers)]
        )
        self.ln_final = LayerNorm(width)
        self.projection = param((width, config.embed_dim), Normal(width**-0.5), trained=False)

    def __call__(self, embeddings: jax.Array) -> jax.Array:
        """Features of texts that end in the last position given.

        Attention is causal, so what follows the end token has no effect and is left out.

        Args:
            embeddings: (B, T, text_width), token embeddings from the start to the end token.

        Returns:
            (B, embed_dim), not normalised, at least float32.
        """
        x = embeddings + self.position[: embeddings.shape[1]].astype(embeddings.dtype)
        for block in self.blocks:
            x = block(x)
        end = self.ln_final(x[:, -1])
        return wide(jnp.matmul(end, self.projection[...].astype(end.dtype)))
