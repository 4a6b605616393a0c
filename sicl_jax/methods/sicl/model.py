"""SiCL's model: an RGB and a silhouette encoder, their projections and the fusion head.

`algorithm.md` section 2; arXiv 2305.13600, section 3.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from sicl_jax.models import encoder
from sicl_jax.models.batch_norm import BatchNorm
from sicl_jax.models.layers import Linear, l2_normalize
from sicl_jax.models.resnet import ResNetConfig


class Projection(nnx.Module):
    """Linear layer and batch norm whose bias is frozen at 0.

    Args:
        features_in: Size of the input.
        features_out: Size of the output.
        trainable: False keeps every weight as it is, as PyTorch does for a layer no loss reaches
            (the silhouette encoder's projection); its running statistics still move.
        norm: Makes the batch norm.
    """

    def __init__(
        self, features_in: int, features_out: int, *, trainable: bool = True, norm=BatchNorm
    ):
        self.linear = Linear(features_in, features_out, trained=trainable)
        self.bn = norm(features_out, train_scale=trainable, train_bias=False)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (B, features_in) to unit rows (B, features_out)."""
        return l2_normalize(self.bn(self.linear(x), train=train))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Encoding:
    """What an encoder makes of a batch.

    Attributes:
        feature: x, (B, D) float32, unit rows.
        projection: z, (B, D) float32, unit rows.
    """

    feature: jax.Array
    projection: jax.Array


class Encoder(encoder.Encoder):
    """The encoder of a stream; beside its feature a projection."""

    def __init__(self, config: ResNetConfig, *, train_projection: bool = True, dtype=None):
        super().__init__(config, dtype=dtype)
        size = config.num_features
        self.projection = Projection(size, size, trainable=train_projection, norm=config.norm)

    def __call__(self, images: jax.Array, *, train: bool) -> Encoding:
        """Encodes normalised images (B, H, W, 3)."""
        pooled = self.pool(images, train=train)
        return Encoding(self.feature(pooled, train=train), self.projection(pooled, train=train))


class TwoStreamModel(nnx.Module):
    """Two encoders with separate weights and the head that fuses their features.

    Args:
        config: Shape of both encoders.
        silhouettes: False builds the RGB encoder alone (the ablation without silhouettes).
        dtype: Computation type of the encoders.
    """

    def __init__(self, config: ResNetConfig, *, silhouettes: bool = True, dtype=None):
        self.rgb = Encoder(config, dtype=dtype)
        # No loss reaches the silhouette's own projection (algorithm.md section 6).
        self.silhouette = (
            Encoder(config, train_projection=False, dtype=dtype) if silhouettes else None
        )
        self.fusion = (
            Projection(2 * config.num_features, config.num_features, norm=config.norm)
            if silhouettes
            else None
        )

    def fuse(self, rgb_feature: jax.Array, silhouette_feature: jax.Array, *, train: bool):
        """Fuses two features (B, D) to u, unit rows (B, D); encoders get no gradient from it."""
        both = jnp.concatenate([rgb_feature, silhouette_feature], axis=-1)
        return self.fusion(jax.lax.stop_gradient(both), train=train)
