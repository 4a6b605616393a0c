"""CSSC: content and salient semantics collaboration (arXiv 2405.16597; `docs/methods/cssc.md`).

Supervised by identities alone. Two branches of the last stage are pooled by mean and by maximum
in turn, and all five features learn to tell the identities; the one made of both branches is
tested.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from sicl_jax import devices, fields
from sicl_jax.data.augment import augment, normalize
from sicl_jax.errors import UsageError
from sicl_jax.fields import Field
from sicl_jax.losses import cross_entropy, hard_triplet
from sicl_jax.methods.base import Source
from sicl_jax.methods.cssc import weights as published
from sicl_jax.methods.cssc.model import HEADS, ContentSalientNet, Head, MiningConfig
from sicl_jax.methods.state import Aux, Batch, Clock, Weights
from sicl_jax.methods.supervised import Supervised
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.weights import torch_names

_NEVER = 1_000_000


class Cssc(Supervised):
    """CSSC behind the loop's interface."""

    name = "cssc"
    fields = {
        **fields.RESNET,
        **fields.AUGMENT,
        "augment.erase_fill": fields.AUGMENT["augment.erase_fill"].but((0.0, 0.0, 0.0)),
        "epochs": fields.COMMON["epochs"].but(120),
        "batch_size": fields.COMMON["batch_size"].but(32),
        "data.image_size": fields.COMMON["data.image_size"].but((384, 192)),
        "data.resize": fields.COMMON["data.resize"].but("bilinear"),
        "optimizer.learning_rate": fields.COMMON["optimizer.learning_rate"].but(3e-4),
        "schedule.name": fields.COMMON["schedule.name"].but("multistep"),
        "schedule.milestones": fields.COMMON["schedule.milestones"].but((30, 60)),
        "schedule.warmup_epochs": fields.COMMON["schedule.warmup_epochs"].but(10),
        "evaluate.always_after": fields.COMMON["evaluate.always_after"].but(_NEVER),
        "evaluate.flip": fields.COMMON["evaluate.flip"].but(True),
        "sampler.num_instances": Field(
            8, fields.COUNT, "Images of an identity in a batch, which has to be a multiple of it."
        ),
        "loss.smoothing": Field(0.1, fields.SHARE, "Label smoothing of the cross-entropy."),
        "loss.margin": Field(0.3, fields.within(0, 1e6), "Margin of the triplet loss."),
        "loss.triplet_after": Field(
            35, fields.COUNT_OR_NONE, "Epochs before the triplet loss joins in."
        ),
        "mining.parts": Field(8, fields.within(1, 64), "Horizontal stripes of a map."),
        "mining.part_features": Field(256, fields.within(1, 4096), "Size of a stripe's feature."),
        "mining.reduction": Field(
            16, fields.within(1, 4096), "Size of a feature over that of the refinement's layer."
        ),
    }
    released_selection = {
        "prcc": "same_clothes/all",
        "ltcc": "standard",
        "celeb_reid": "standard/cssc_released",
    }

    def __init__(self, config: ml_collections.ConfigDict, sizes: Mapping[str, int] | None = None):
        super().__init__(config, sizes)
        model = config.model
        self._mining = MiningConfig(**config.mining)
        self._shape = ResNetConfig.of(config.model)
        if len(model.stage_sizes) < 2 or model.stage_sizes[-1] != 3:
            raise UsageError(
                f"--config.model.stage_sizes={tuple(model.stage_sizes)}: the last of two stages or "
                "more has to have 3 blocks, of which CSSC makes its branches"
            )
        rows = -(-config.data.image_size[0] // (2 ** len(model.stage_sizes) * model.last_stride))
        if rows < self._mining.parts:
            raise UsageError(
                f"--config.data.image_size={tuple(config.data.image_size)}: makes a map of {rows} "
                f"rows, fewer than --config.mining.parts={self._mining.parts}; take higher images"
            )

    def build(self) -> ContentSalientNet:
        """The network with its five classifiers."""
        return ContentSalientNet(
            self._shape,
            self.sizes["classes"],
            mining=self._mining,
            dtype=devices.compute_dtype(self.config.model.dtype),
        )

    # ---- weights ---------------------------------------------------------------------------

    def draw_weights(self, model: ContentSalientNet, seed: int) -> None:
        """The second branch begins as a copy of the first."""
        super().draw_weights(model, seed)
        model.copy_branch()

    def load_pretrained(self, model: ContentSalientNet, source: str) -> None:
        """ImageNet weights go into the backbone and the second branch, the authors' into all."""
        published.load_pretrained(model, source, self._shape)

    def names(self, model: ContentSalientNet) -> torch_names.Names:
        """The authors' names."""
        return published.names(model)

    def checkpoint(self, model: ContentSalientNet, *, epoch: int, steps: int) -> dict[str, Any]:
        """What the authors' training script saves, but for the optimiser and its figures."""
        arrays = torch_names.collect(self.names(model), num_batches=steps)
        return {"model_state_dict": arrays, "epoch": epoch - 1}

    @classmethod
    def recognize(cls, arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
        """A checkpoint of the authors, of any size."""
        return published.recognize(arrays)

    # ---- a step ----------------------------------------------------------------------------

    def initial_memory(self, weights: Weights, source: Source) -> jax.Array:
        """The identity of each class, (C,) int32, ascending."""
        del weights
        identities = np.unique(source.data.labels["identity"]).astype(np.int32)
        return devices.put_replicated(identities)

    def loss(
        self,
        model: ContentSalientNet,
        memory: jax.Array,
        batch: Batch,
        key: jax.Array,
        clock: Clock,
    ) -> tuple[jax.Array, Aux]:
        """Augments, and computes the loss of all heads (sections 1 and 3)."""
        images = augment(key, batch.pixels["image"], self._augment)
        classes = jnp.searchsorted(memory, batch.labels["identity"])
        return self.objective(model, images, classes, clock)

    def objective(
        self, model: ContentSalientNet, images: jax.Array, classes: jax.Array, clock: Clock
    ) -> tuple[jax.Array, Aux]:
        """The loss of given, already normalised images.

        Args:
            model: In training mode.
            images: (B, H, W, 3).
            classes: (B,) int32.
            clock: When; the triplet loss counts from a certain epoch on.

        Returns:
            The loss, and its terms head by head.
        """
        settings = self.config.loss
        identity, triplet = loss_terms(
            model(images), classes, smoothing=settings.smoothing, margin=settings.margin
        )
        joined = jnp.where(clock.epoch < settings.triplet_after, 0, jnp.sum(triplet))
        terms = {
            f"{kind}_{name}": values[index]
            for kind, values in (("identity", identity), ("triplet", triplet))
            for index, name in enumerate(HEADS)
        }
        return jnp.sum(identity) + joined, Aux(metrics=terms)

    def embed(self, model: ContentSalientNet, batch: Batch, stream: str) -> jax.Array:
        """The fused feature, before its batch norm (section 6)."""
        del stream
        return model.embed(normalize(batch.pixels["image"]))


def loss_terms(
    heads: Mapping[str, Head], labels: jax.Array, *, smoothing: float, margin: float
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy and batch-hard triplet loss of each head (section 3).

    Args:
        heads: Of the network in training mode.
        labels: (B,) int32 classes.
        smoothing: Of the cross-entropy's targets.
        margin: Of the triplet loss.

    Returns:
        Two arrays (5,), in the order of `HEADS`.
    """
    identity = [cross_entropy(heads[name].logits, labels, smoothing) for name in HEADS]
    triplet = [hard_triplet(heads[name].feature, labels, margin) for name in HEADS]
    return jnp.stack(identity), jnp.stack(triplet)
