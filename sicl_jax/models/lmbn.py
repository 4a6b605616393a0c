"""LMBN, the lightweight multi-branch network (Herzog et al.; ICIP 2021, arXiv 2101.10774), NHWC.

An OSNet whose last stages are there three times: a global, a part and a channel branch, with seven
heads on top (docs/methods/deskpro.md, section 2). B is the batch, C the classes, D the feature
size, Z the channels of the last stage.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from sicl_jax.models.batch_norm import BatchNorm
from sicl_jax.models.layers import Conv, Linear, Normal, SideBySide, Uniform, wide
from sicl_jax.models.osnet import Block, ConvNorm, OSNetConfig, Stage
from sicl_jax.models.resnet import average_pool, largest_pool, max_pool

NUM_HEADS = 7
DROPPED_HEIGHT = 0.33


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeadOutputs:
    """What the heads make of a batch.

    Attributes:
        logits: (7, B, C).
        features: (3, B, D), before the batch norm, of the first three heads: those that a metric
            loss trains.
        embedding: (B, D, 7), after the batch norm: what is compared in a test.
    """

    logits: jax.Array
    features: jax.Array
    embedding: jax.Array


class Trunk(nnx.Module):
    """OSNet up to the first block of conv3."""

    def __init__(self, config: OSNetConfig, *, dtype=None):
        stem, first, second, _ = config.channels
        make = {"streams": config.streams, "dtype": dtype}
        self.conv1 = ConvNorm(3, stem, 7, 2, dtype=dtype)
        self.conv2 = Stage(stem, first, config.blocks[0], transition=True, **make)
        self.conv3 = Block(first, second, **make)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images (B, H, W, 3) to (B, H / 8, W / 8, channels[2])."""
        x = max_pool(self.conv1(images, train=train))
        return self.conv3(self.conv2(x, train=train), train=train)


class Branch(nnx.Module):
    """OSNet from the second block of conv3 on."""

    def __init__(self, config: OSNetConfig, *, dtype=None):
        _, _, first, second = config.channels
        make = {"streams": config.streams, "dtype": dtype}
        self.conv3 = Stage(first, first, config.blocks[1] - 1, transition=True, **make)
        self.conv4 = Stage(first, second, config.blocks[2], transition=False, **make)
        self.conv5 = ConvNorm(second, second, dtype=dtype)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (B, h, w, channels[2]) to (B, h / 2, w / 2, channels[3])."""
        for part in (self.conv3, self.conv4, self.conv5):
            x = part(x, train=train)
        return x


class Head(nnx.Module):
    """A 1 x 1 convolution of pooled maps, a batch norm without bias, and a classifier.

    Args:
        features_in: Size of the input; None leaves the convolution out.
        features_out: D.
        classes: C.
    """

    def __init__(self, features_in: int | None, features_out: int, classes: int):
        self.reduction = (
            None if features_in is None else Conv(features_in, features_out, 1, init=Uniform())
        )
        self.bn = BatchNorm(features_out, train_bias=False)
        self.classifier = Linear(features_out, classes, bias=False, init=Normal(0.001))

    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Maps (B, features_in) to logits (B, C), and features (B, D) before and after the norm."""
        if self.reduction is not None:
            x = self.reduction(x[:, None, None])[:, 0, 0]
        normed = self.bn(x, train=train)
        return self.classifier(normed), x, normed


class Shared(nnx.Module):
    """The 1 x 1 convolution, batch norm and ReLU that both halves of the channels go through."""

    def __init__(self, features_in: int, features_out: int):
        self.conv = Conv(features_in, features_out, 1, init=Uniform())
        self.bn = BatchNorm(features_out)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (B, features_in) to (B, features_out)."""
        return jax.nn.relu(self.bn(self.conv(x[:, None, None])[:, 0, 0], train=train))


class LMBN(nnx.Module):
    """Trunk, three branches and seven heads.

    Args:
        config: Shape of the OSNet.
        features: D.
        classes: C.
        dtype: Computation type of trunk and branches; pooled features and heads are at least
            float32.
    """

    def __init__(self, config: OSNetConfig, features: int, classes: int, *, dtype=None):
        last = config.channels[-1]
        self.trunk = Trunk(config, dtype=dtype)
        # Global, part, channel: each begins as the same part of one ImageNet OSNet.
        self.branches = SideBySide(lambda: Branch(config, dtype=dtype), ["branches"] * 3)
        self.bottleneck = Block(last, last, streams=config.streams, init=Uniform(), dtype=dtype)
        # Two of the global branch, three of the part branch; each two or three begin alike.
        self.map_heads = SideBySide(
            lambda: Head(last, features, classes), ["global_heads"] * 2 + ["part_heads"] * 3
        )
        self.shared = Shared(last // 2, features)
        self.channel_heads = SideBySide(
            lambda: Head(None, features, classes), ["channel_heads.0", "channel_heads.1"]
        )

    def __call__(self, images: jax.Array, *, train: bool) -> HeadOutputs:
        """Maps normalised images (B, H, W, 3) to what the heads make of them."""
        return self.heads(self.trunk(images, train=train), train=train)

    def heads(self, x: jax.Array, *, train: bool) -> HeadOutputs:
        """Maps the trunk's output (B, H / 8, W / 8, channels[2]) to the heads' outputs."""
        x = jnp.broadcast_to(x, (len(self.branches.parts), *x.shape))
        whole, parts, channels = self.branches(x, train=train)

        bottleneck = self.bottleneck(whole, train=train)
        dropped = drop_rows(bottleneck) if train else bottleneck
        upper, lower = _halves(parts)
        pooled = [
            *(average_pool(bottleneck), largest_pool(dropped)),
            *(largest_pool(parts), average_pool(upper), average_pool(lower)),
        ]
        logits, features, normed = self.map_heads(jnp.stack(pooled), train=train)

        pieces = jnp.split(average_pool(channels), 2, axis=-1)
        pieces = jnp.stack([self.shared(piece, train=train) for piece in pieces])
        piece_logits, _, piece_normed = self.channel_heads(pieces, train=train)

        return HeadOutputs(
            logits=jnp.concatenate([logits, piece_logits]),
            features=features[:3],
            embedding=jnp.moveaxis(jnp.concatenate([normed, piece_normed]), 0, -1),
        )


def drop_rows(maps: jax.Array) -> jax.Array:
    """Zeros each sample's rows of the largest activation (batch drop block, top rows).

    A row's activation is the maximum over its positions of the channels' sum of squares;
    round(0.33 h) rows go.

    Args:
        maps: (B, h, w, Z).
    """
    height = maps.shape[1]
    activation = jnp.max(jnp.sum(jnp.square(wide(maps)), axis=-1), axis=-1)
    _, rows = jax.lax.top_k(activation, round(DROPPED_HEIGHT * height))
    dropped = jnp.any(jax.nn.one_hot(rows, height, dtype=bool), axis=1)
    return jnp.where(dropped[:, :, None, None], 0, maps)


def _halves(maps: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The upper and the lower half of (B, h, w, Z); both have the middle row of an odd height."""
    height = maps.shape[1]
    return maps[:, : (height + 1) // 2], maps[:, height // 2 :]


def flatten_columns(columns: jax.Array) -> jax.Array:
    """Embeddings (B, D, columns) as rows, column by column: (B, columns x D)."""
    return jnp.swapaxes(columns, 1, 2).reshape(columns.shape[0], -1)


def unit_columns(features: jax.Array, columns: int, *, zeros_stay: bool = True) -> jax.Array:
    """Scales each column of flattened embeddings (B, columns x D) to unit length.

    Args:
        features: From `flatten_columns`.
        columns: How many there are.
        zeros_stay: Whether a column of zeros stays, rather than becoming 0 / 0.
    """
    split = features.reshape(features.shape[0], columns, -1)
    norm = jnp.sqrt(jnp.sum(jnp.square(split), axis=-1, keepdims=True))
    if zeros_stay:
        norm = jnp.where(norm > 0, norm, 1)
    return (split / norm).reshape(features.shape)
