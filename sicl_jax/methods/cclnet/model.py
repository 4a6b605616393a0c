"""CCLNet's model: CLIP with a stem for each modality, and learned prompts for its text encoder.

`docs/methods/cclnet.md` section 2.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from sicl_jax.models import clip, resnet
from sicl_jax.models.batch_norm import BatchNorm
from sicl_jax.models.layers import Normal, l2_normalize, param

_TOKEN_STD = 0.02  # Of CLIP's token embeddings before training, and of the learned ones.


@dataclasses.dataclass(frozen=True)
class PromptShape:
    """Where the learned tokens stand in a modality's sentence.

    Attributes:
        start: Tokens before them, the start token among them.
        learned: Learned tokens of a class.
        end: Tokens after them up to the end token.
    """

    start: int = 6
    learned: int = 4
    end: int = 3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Encoding:
    """What the image encoder makes of a batch, in at least float32.

    Attributes:
        feature: f, (B, D), not normalised.
        projection: z, (B, E), not normalised: comparable with text features.
    """

    feature: jax.Array
    projection: jax.Array


class Prompts(nnx.Module):
    """The embedded sentences of a modality's classes, which differ in the learned tokens.

    Args:
        classes: How many clusters of this modality have a prompt.
        shape: Where the learned tokens stand.
        config: The text encoder's shape.
    """

    def __init__(self, classes: int, shape: PromptShape, config: clip.ClipConfig):
        width, init = config.text_width, Normal(_TOKEN_STD)
        rest = config.context - shape.start - shape.learned
        self.used = shape.end
        self.learned = param((classes, shape.learned, width), init)
        self.start = param((1, shape.start, width), init, trained=False)
        # Published checkpoints hold all that follows up to the context's end.
        self.end = param((1, rest, width), init, trained=False)

    def __call__(self, classes: jax.Array) -> jax.Array:
        """Embeddings of the sentences of (B,) classes, up to the end token: (B, T, width)."""
        learned = self.learned[...][classes]
        parts = (self.start[...], self.end[:, : self.used])
        start, end = (jnp.broadcast_to(p, (len(classes), *p.shape[1:])) for p in parts)
        return jnp.concatenate([start, learned, end], axis=1)


class CrossModalModel(nnx.Module):
    """Two stems, shared residual layers, two poolings, and a text encoder with learned prompts.

    Args:
        config: Shape of CLIP.
        image_size: Height and width of the images.
        classes: How many visible and infrared clusters have a prompt.
        prompts: Where the learned tokens stand, visible and infrared.
        dtype: Computation type of the encoders.
    """

    def __init__(
        self,
        config: clip.ClipConfig,
        *,
        image_size: tuple[int, int],
        classes: tuple[int, int] = (1, 1),
        prompts: Sequence[PromptShape] = (PromptShape(), PromptShape()),
        dtype=None,
    ):
        self.dtype = dtype
        self.visible = clip.Stem(config.width, dtype=dtype)
        self.infrared = clip.Stem(config.width, dtype=dtype)
        self.layers = clip.residual_layers(config, dtype=dtype)
        height, width = clip.grid(image_size)
        size = config.num_features
        self.attention_pool = clip.AttentionPool(size, config.embed_dim, height * width)
        self.bottleneck = BatchNorm(size, train_bias=False)
        self.text = clip.TextTransformer(config)
        self.visible_prompts = Prompts(classes[0], prompts[0], config)
        self.infrared_prompts = Prompts(classes[1], prompts[1], config)

    def __call__(self, images: jax.Array, num_visible: int, *, train: bool) -> Encoding:
        """Encodes normalised images (B, H, W, 3): `num_visible` visible ones, then infrared ones.

        In training each stem's statistics are those of its modality, all others those of both.
        """
        maps = self._maps(
            jnp.concatenate(
                [
                    self.visible(images[:num_visible], train=train),
                    self.infrared(images[num_visible:], train=train),
                ]
            ),
            train=train,
        )
        feature = self.bottleneck(clip.generalized_mean(maps), train=train)
        return Encoding(feature, self.attention_pool(maps))

    def _maps(self, x: jax.Array, *, train: bool) -> jax.Array:
        for blocks in self.layers:
            x = resnet.run(blocks, x, train=train)
        return x

    def maps(self, images: jax.Array, infrared: jax.Array) -> jax.Array:
        """The shared layers' map (B, h, w, D) in evaluation mode.

        Args:
            images: (B, H, W, 3), normalised, of both modalities in any order.
            infrared: (B,) bool.
        """
        stems = (self.visible(images, train=False), self.infrared(images, train=False))
        return self._maps(jnp.where(infrared[:, None, None, None], stems[1], stems[0]), train=False)

    def embed(self, images: jax.Array, infrared: jax.Array) -> jax.Array:
        """The features that are compared at test: unit rows (B, D); arguments as for `maps`."""
        pooled = clip.generalized_mean(self.maps(images, infrared))
        return l2_normalize(self.bottleneck(pooled, train=False))

    def project(self, images: jax.Array, infrared: jax.Array) -> jax.Array:
        """Projections z in evaluation mode: (B, E), not normalised; arguments as for `maps`."""
        return self.attention_pool(self.maps(images, infrared))

    def describe(self, prompts: Prompts, classes: jax.Array) -> jax.Array:
        """Text features (B, E) of the prompts of (B,) classes, not normalised."""
        sentences = prompts(classes)
        return self.text(sentences.astype(self.dtype or sentences.dtype))
