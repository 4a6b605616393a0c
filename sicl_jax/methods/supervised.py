"""What methods share that learn from identities in batches of P x K images.

Defaults of those with an OSNet are DeskPro's (docs/methods/deskpro.md, sections 1, 3 and 5).
"""

import math
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from sicl_jax import devices, fields
from sicl_jax.data import samplers
from sicl_jax.data.augment import AugmentConfig
from sicl_jax.data.dataset import Split
from sicl_jax.errors import UsageError
from sicl_jax.fields import Field
from sicl_jax.methods.base import Method, Source
from sicl_jax.methods.state import Batch, TrainState, Weights
from sicl_jax.models.osnet import OSNetConfig

_EPOCHS = 140
_IMAGES = 30
_WIDTHS = fields.within(4, 4096)

FIELDS: Mapping[str, Field] = {
    **fields.AUGMENT,
    "augment.enlarge": fields.AUGMENT["augment.enlarge"].but(0.5),
    "augment.pad": fields.AUGMENT["augment.pad"].but(0),
    "augment.erase_fill": fields.AUGMENT["augment.erase_fill"].but((0.4914, 0.4822, 0.4465)),
    "epochs": fields.COMMON["epochs"].but(_EPOCHS),
    "batch_size": fields.COMMON["batch_size"].but(_IMAGES),
    "data.image_size": fields.COMMON["data.image_size"].but((384, 128)),
    "data.resize": fields.COMMON["data.resize"].but("bilinear"),
    "optimizer.learning_rate": fields.COMMON["optimizer.learning_rate"].but(
        6e-4 * math.sqrt(_IMAGES / 20)
    ),
    # b (e + 1) / 10 in the first ten epochs, then half a cosine to b / 1000.
    "schedule.name": fields.COMMON["schedule.name"].but("cosine"),
    "schedule.start": fields.COMMON["schedule.start"].but(10),
    "schedule.end": fields.COMMON["schedule.end"].but(_EPOCHS - 1),
    "schedule.floor": fields.COMMON["schedule.floor"].but(1e-3),
    "schedule.warmup_epochs": fields.COMMON["schedule.warmup_epochs"].but(9),
    "evaluate.always_after": fields.COMMON["evaluate.always_after"].but(1_000_000),
    "evaluate.flip": fields.COMMON["evaluate.flip"].but(True),
    "sampler.num_instances": Field(
        6, fields.COUNT, "Images of an identity in a batch, which has to be a multiple of it."
    ),
    "model.blocks": Field((2, 2, 2), fields.within(1, 100).each(3), "Blocks of OSNet's stages."),
    "model.channels": Field(
        (64, 256, 384, 512), _WIDTHS.each(4), "Channels of OSNet's stem and of its stages."
    ),
    "model.streams": Field(
        "intended",
        fields.one_of("released", "intended"),
        "Streams of OSNet's blocks: intended runs 1, 2, 3 and 4 convolutions, released (DeskPro's "
        "code) the first stream twice in place of the second.",
    ),
    "loss.smoothing": Field(0.1, fields.SHARE, "Label smoothing of the cross-entropy."),
    "loss.margin": Field(0.7, fields.within(0, 1e6), "Margin of the triplet loss."),
}


class Supervised(Method):
    """A method whose classes are the training identities."""

    labels = ("identity",)

    def __init__(self, config: ml_collections.ConfigDict, sizes: Mapping[str, int] | None = None):
        super().__init__(config, sizes)
        self._augment = AugmentConfig(**config.augment)

    def usable(self, data: Split) -> np.ndarray:
        """(N,) bool, the training images that have all that is needed."""
        return np.ones(len(data), bool)

    def measure(self, data: Split, state: TrainState | None) -> dict[str, int]:
        """Identities of usable images, each a class."""
        del state
        return {"classes": len(np.unique(data.labels["identity"][self.usable(data)]))}

    def check(self, data: Split) -> list[str]:
        """Refuses identities that are unknown or too few; warns of those with one image."""
        return samplers.check_identities(
            data.labels["identity"][self.usable(data)],
            name=self.config.data.name,
            batch_size=self.config.batch_size,
            num_instances=self.config.sampler.num_instances,
        )

    def initial_memory(self, weights: Weights, source: Source) -> jax.Array:
        """The identity of each class, (C,) int32."""
        del weights
        return devices.put_replicated(class_identities(source.data, self.usable(source.data)))

    def classes(self, identities: jax.Array, batch: Batch) -> jax.Array:
        """(B,) int32, each sample's class; `identities` is the memory."""
        return jnp.argmax(batch.labels["identity"][:, None] == identities[None, :], axis=1)

    def draw_batches(self, state: TrainState, data: Split, epoch: int) -> np.ndarray:
        """Batches of P identities with K usable images each, in epochs of differing length."""
        del state
        return samplers.draw_identities(
            np.where(self.usable(data), data.labels["identity"], -1),
            batch_size=self.config.batch_size,
            num_instances=self.config.sampler.num_instances,
            rng=np.random.default_rng((self.config.seed, epoch)),
        )


class WithOSNet(Supervised):
    """One whose networks are OSNets, and whose config has `FIELDS`."""

    def __init__(self, config: ml_collections.ConfigDict, sizes: Mapping[str, int] | None = None):
        super().__init__(config, sizes)
        model = config.model
        self._shape = OSNetConfig(tuple(model.blocks), tuple(model.channels), model.streams)
        if any(width % 4 or width < 64 for width in model.channels[1:]):
            raise UsageError(
                f"--config.model.channels={tuple(model.channels)}: all but the first have to be "
                "multiples of 4 and at least 64: a block's streams have a quarter, its gate a 64th"
            )


def class_identities(data: Split, usable: np.ndarray) -> np.ndarray:
    """The identities of the usable images in the order of the published codes' classes, (C,) int32.

    They sort identities as strings: as file names begin with them (`0007_c1_0001.jpg`) where all
    do, else as numbers.
    """
    identities = data.labels["identity"][usable].astype(np.int32)
    words = [
        pathlib.PurePath(name).stem.split("_")[0]
        for name, kept in zip(data.names, usable, strict=True)
        if kept
    ]
    if all(w.isdecimal() and int(w) == i for w, i in zip(words, identities, strict=True)):
        by_word = dict(sorted(zip(words, identities, strict=True)))
        return np.array(list(dict.fromkeys(by_word.values())), np.int32)
    return np.unique(identities)
