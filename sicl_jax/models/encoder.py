"""The encoder of SiCL and of Cluster Contrast: images to unit features."""

import jax
from flax import nnx

from sicl_jax.models.layers import l2_normalize
from sicl_jax.models.resnet import GeneralizedMean, ResNet, ResNetConfig, average_pool


class Encoder(nnx.Module):
    """A ResNet, pooling over positions, a batch norm whose bias stays 0, and L2 normalisation.

    Args:
        config: Shape of the ResNet.
        pooling: `'average'`, or `'gem'` for the generalised mean.
        dtype: Computation type of the convolutions, the weights' own if None.
    """

    def __init__(self, config: ResNetConfig, *, pooling: str = "average", dtype=None):
        self.backbone = ResNet(config, dtype=dtype)
        self.gem = GeneralizedMean() if pooling == "gem" else None
        self.feature_bn = config.norm(config.num_features, train_bias=False)

    def pool(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps normalised images (B, H, W, 3) to what is pooled of their maps, (B, D)."""
        maps = self.backbone.maps(images, train=train)
        return average_pool(maps) if self.gem is None else self.gem(maps)

    def feature(self, pooled: jax.Array, *, train: bool) -> jax.Array:
        """Maps what was pooled (B, D) to unit rows (B, D)."""
        return l2_normalize(self.feature_bn(pooled, train=train))

    def embed(self, images: jax.Array) -> jax.Array:
        """Unit rows (B, D) of normalised images (B, H, W, 3), in evaluation mode."""
        return self.feature(self.pool(images, train=False), train=False)
