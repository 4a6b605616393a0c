"""Contrastive learning without clusters or labels (SimCLR; Chen et al., ICML 2020)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sicl_jax import devices, fields, losses
from sicl_jax.data.augment import AugmentConfig, augment, normalize
from sicl_jax.fields import Field
from sicl_jax.methods.base import Method
from sicl_jax.methods.state import Aux
from sicl_jax.models.layers import Linear, l2_normalize
from sicl_jax.models.resnet import ResNet, ResNetConfig, average_pool


class Network(nnx.Module):
    """A ResNet, and behind it the projection in which views are compared."""

    def __init__(self, config):
        shape = ResNetConfig(config.block, tuple(config.stage_sizes), config.width)
        self.backbone = ResNet(shape, dtype=devices.compute_dtype(config.dtype))
        self.projection = Linear(shape.num_features, config.projection)

    def features(self, images, *, train):
        """Maps images (B, H, W, 3) to pooled features (B, D)."""
        return average_pool(self.backbone.maps(images, train=train))


class TwoViews(Method):
    """Two augmented views of an image are each other's class among all views of the batch."""

    name = "two_views"
    fields = {
        **fields.RESNET,
        **fields.AUGMENT,
        "temperature": Field(0.1, fields.above_zero(100), "Of the similarities of views."),
        "steps_per_epoch": Field(200, fields.COUNT, "Steps of an epoch."),
        "model.projection": Field(128, fields.COUNT, "Numbers in which views are compared."),
    }

    def build(self):
        """The network."""
        return Network(self.config.model)

    def draw_batches(self, state, data, epoch):
        """Images in random order, none twice in a batch."""
        del state
        rng = np.random.default_rng((self.config.seed, epoch))
        steps, size = self.config.steps_per_epoch, self.config.batch_size
        rows = [rng.choice(len(data), size, replace=False) for _ in range(steps)]
        return np.stack(rows).astype(np.int32)

    def loss(self, model, memory, batch, key, clock):
        """The cross-entropy of each view's partner among all other views."""
        del memory, clock
        chain, images = AugmentConfig(**self.config.augment), batch.pixels["image"]
        views = jnp.concatenate([augment(k, images, chain) for k in jax.random.split(key)])
        codes = l2_normalize(model.projection(model.features(views, train=True)))
        itself = jnp.eye(len(codes), dtype=bool)
        scores = jnp.where(itself, -jnp.inf, codes @ codes.T / self.config.temperature)
        partner = jnp.roll(jnp.arange(len(codes)), len(images))
        return losses.cross_entropy(scores, partner), Aux()

    def embed(self, model, batch, stream):
        """The pooled features, before the projection."""
        del stream
        return model.features(normalize(batch.pixels["image"]), train=False)
