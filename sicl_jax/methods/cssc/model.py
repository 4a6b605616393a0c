"""CSSC's model: a ResNet whose last stage makes two branches, and what they mine on the way.

`docs/methods/cssc.md` section 2; arXiv 2405.16597.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from sicl_jax.models.batch_norm import BatchNorm
from sicl_jax.models.layers import Linear, Normal, Uniform
from sicl_jax.models.resnet import BLOCKS, ResNet, ResNetConfig, average_pool, largest_pool, run

# In the order of the published code's outputs.
HEADS = (
    "content_branch1",
    "salient_branch1",
    "salient_branch2",
    "content_branch2",
    "fused",
)
_CLASSIFIER = Normal(0.001)


@dataclasses.dataclass(frozen=True)
class MiningConfig:
    """Sizes inside a semantics mining and refinement block; constants of the published code.

    Attributes:
        parts: Horizontal stripes of a map.
        part_features: Size of a stripe's feature.
        reduction: Size of a map's feature over that of the refinement's hidden layer.
    """

    parts: int = 8
    part_features: int = 256
    reduction: int = 16


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Head:
    """What one of the five heads gives to the loss.

    Attributes:
        feature: (B, D), pooled, as it is: neither normalised nor after a batch norm.
        logits: (B, C).
    """

    feature: jax.Array
    logits: jax.Array


class Mining(nnx.Module):
    """Semantics mining and refinement (SMR) of a map: a head, and a factor for each channel.

    Args:
        features: D, channels of the map.
        num_classes: C.
        config: Sizes inside.
        salient: Whether the map is pooled by its maximum (salient) or by its mean (content).
        norm: Makes its batch norms.
    """

    def __init__(
        self,
        features: int,
        num_classes: int,
        config: MiningConfig,
        *,
        salient: bool,
        norm: Callable[..., BatchNorm] = BatchNorm,
    ):
        size = config.part_features
        hidden = max(features // config.reduction, 1)
        self.salient = salient
        self.bn = norm(features, train_bias=False)
        self.parts = nnx.List(
            Linear(features, size, bias=False, init=Uniform()) for _ in range(config.parts)
        )
        self.part_bns = nnx.List(norm(size) for _ in range(config.parts))
        self.classifier = Linear(
            features + config.parts * size, num_classes, bias=False, init=_CLASSIFIER
        )
        self.squeeze = _linear(features, hidden)
        self.excite = _linear(hidden, features)

    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, Head | None]:
        """Refines a map.

        Args:
            x: (B, H, W, D), H at least the number of stripes in training.
            train: Whether to give the head too, by the batch's statistics.

        Returns:
            The refined map, of x's shape and type, and the head, None in evaluation mode.
        """
        pool = largest_pool if self.salient else average_pool
        feature = pool(x)
        factors = jax.nn.sigmoid(self.excite(jax.nn.relu(self.squeeze(feature))))
        refined = x * factors[:, None, None, :].astype(x.dtype)
        if not train:
            return refined, None
        pieces = [self.bn(feature, train=True)]
        rows = x.shape[1] // len(self.parts)  # Rows below the last whole stripe are in none.
        for index, (linear, bn) in enumerate(zip(self.parts, self.part_bns, strict=True)):
            stripe = pool(x[:, index * rows : (index + 1) * rows])
            pieces.append(bn(linear(stripe), train=True))
        return refined, Head(feature, self.classifier(jnp.concatenate(pieces, axis=1)))


class ContentSalientNet(nnx.Module):
    """CSSC's network.

    Branch 1 is the first two blocks of the backbone's last stage; branch 2 has copies of them, and
    the last block serves both (`copy_branch` makes the copies once the backbone has its weights).

    Args:
        config: Of the backbone: three blocks in the last stage, of stride 1.
        num_classes: C, training identities.
        mining: Sizes inside the mining blocks.
        dtype: Computation type of the convolutions.

    Raises:
        ValueError: The last stage has another number of blocks.
    """

    def __init__(
        self,
        config: ResNetConfig,
        num_classes: int,
        *,
        mining: MiningConfig = MiningConfig(),
        dtype=None,
    ):
        if config.stage_sizes[-1] != 3:
            raise ValueError(f"the last stage has {config.stage_sizes[-1]} blocks, not 3")
        size = config.num_features
        block = functools.partial(BLOCKS[config.block], norm=config.norm, dtype=dtype)
        mine = functools.partial(Mining, size, num_classes, mining, norm=config.norm)
        width = size // BLOCKS[config.block].expansion
        self.backbone = ResNet(config, dtype=dtype)
        self.branch2 = nnx.List(
            [block(size // 2, width, config.last_stride), block(size, width, 1)]
        )
        self.content1 = mine(salient=False)
        self.salient1 = mine(salient=True)
        self.salient2 = mine(salient=True)
        self.content2 = mine(salient=False)
        self.bn = config.norm(size, train_bias=False)
        self.classifier = Linear(size, num_classes, bias=False, init=_CLASSIFIER)

    def copy_branch(self) -> None:
        """Gives branch 2 the arrays of branch 1: how training starts."""
        nnx.update(self.branch2, nnx.state(nnx.List(self.backbone.layers[-1][:2])))

    def __call__(self, images: jax.Array) -> dict[str, Head]:
        """The five heads of normalised images (B, H, W, 3), in training mode."""
        fused, heads = self._fuse(self.trunk(images, train=True), train=True)
        logits = self.classifier(self.bn(fused, train=True))
        return dict(zip(HEADS, (*heads, Head(fused, logits)), strict=True))

    def embed(self, images: jax.Array) -> jax.Array:
        """The fused feature in evaluation mode: (B, H, W, 3) to (B, D), not normalised."""
        return self._fuse(self.trunk(images, train=False), train=False)[0]

    def trunk(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps normalised images (B, H, W, 3) to what both branches start from."""
        x = self.backbone.stem(images, train=train)
        for stage in self.backbone.layers[:-1]:
            x = run(stage, x, train=train)
        return x

    def _fuse(self, x, *, train):
        """The fused feature (B, D) and the heads of the four mining blocks."""
        first, second, shared = self.backbone.layers[-1]
        u, content1 = self.content1(first(x, train=train), train=train)
        u, salient1 = self.salient1(second(u, train=train), train=train)
        first, second = self.branch2
        v, salient2 = self.salient2(first(x, train=train), train=train)
        v, content2 = self.content2(second(v, train=train), train=train)
        fused = largest_pool(shared(u + v, train=train))
        return fused, (content1, salient1, salient2, content2)


def _linear(features_in: int, features_out: int) -> Linear:
    """A layer that begins as torch's do, its bias too."""
    bound = features_in**-0.5
    return Linear(features_in, features_out, init=Uniform(bound), bias_init=Uniform(bound))
