"""LMBN behind the loop's interface: seven heads learn to tell the identities.

Of images it is a light baseline of 6.5 M parameters; of restored faces it is the teacher that
DeskPro needs and nobody can download (docs/methods/deskpro.md, sections 2 and 4).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from sicl_jax import devices, fields
from sicl_jax.data.augment import augment, normalize
from sicl_jax.data.dataset import Form, Split
from sicl_jax.errors import UserError
from sicl_jax.fields import Field
from sicl_jax.losses import cross_entropy, hard_triplet
from sicl_jax.methods import supervised
from sicl_jax.methods.state import Aux, Batch, Clock
from sicl_jax.models.lmbn import LMBN, NUM_HEADS, flatten_columns, unit_columns
from sicl_jax.weights import lmbn, osnet, torch_names
from sicl_jax.weights.torch_files import load_state_dict

_FACES = ("face", "face_restored")


class Lmbn(supervised.WithOSNet):
    """LMBN of one column of pictures."""

    name = "lmbn"
    similarity = "dot"
    fields = {
        **supervised.FIELDS,
        "data.column": Field(
            "image",
            fields.one_of("image", *_FACES),
            "Pictures to learn from. Where a restored face is missing, the face takes its place.",
        ),
        "model.features": Field(512, fields.within(1, 4096), "Size of each of seven features."),
    }

    def __init__(self, config: ml_collections.ConfigDict, sizes: Mapping[str, int] | None = None):
        super().__init__(config, sizes)
        column = config.data.column
        reads = {
            "image": ("image",),
            "face": ("face", "has_face"),
            "face_restored": ("face", "has_face", "face_restored", "has_face_restored"),
        }
        self.streams = {column: reads[column]}
        if column == "face_restored":
            self.labels = ("identity", "has_face_restored")

    @property
    def forms(self) -> dict[str, Form]:
        """The column, and the face that stands in for a restored one."""
        size, resize = tuple(self.config.data.image_size), self.config.data.resize
        columns = (
            _FACES if self.config.data.column == "face_restored" else [self.config.data.column]
        )
        return {column: Form(size, resize) for column in columns}

    def usable(self, data: Split) -> np.ndarray:
        """Images that have the picture."""
        if self.config.data.column == "image":
            return super().usable(data)
        return data.labels["has_face"] == 1

    def check(self, data: Split) -> list[str]:
        """Refuses data without the pictures; says how many images lack them."""
        column, name = self.config.data.column, self.config.data.name
        usable = self.usable(data)
        if not usable.any():
            raise UserError(
                f"{name}: none of {len(data)} training images has a face; make faces with "
                "sicl-jax faces and prepare it with --faces, or train with --config.data.column="
                "image"
            )
        warnings = super().check(data)
        if not usable.all():
            count = np.count_nonzero(~usable)
            warnings.append(
                f"{name}: {count} of {len(data)} training images have no face: left out"
            )
        if column == "face_restored" and not data.labels["has_face_restored"].any():
            warnings.append(f"{name}: there are no restored faces: the faces themselves are used")
        return warnings

    def build(self) -> LMBN:
        """The network."""
        model = self.config.model
        dtype = devices.compute_dtype(model.dtype)
        return LMBN(self._shape, model.features, self.sizes["classes"], dtype=dtype)

    def names(self, model: LMBN) -> torch_names.Names:
        """Those of the face teacher in DeskPro's checkpoints; of images our own before them."""
        of_images = self.config.data.column == "image"
        return lmbn.names(lmbn.OF_IMAGES if of_images else lmbn.TEACHER, model)

    def checkpoint(self, model: LMBN, *, epoch: int, steps: int) -> dict[str, Any]:
        """What DeskPro's published code reads as its teacher (`pre_train`), if it knows faces."""
        del epoch
        arrays = lmbn.with_repeats(torch_names.collect(self.names(model), num_batches=steps))
        return {"state_dict": {f"module.{name}": array for name, array in arrays.items()}}

    def load_pretrained(self, model: LMBN, source: str) -> None:
        """The public OSNet's ImageNet file fills trunk and branches, an LMBN's all."""
        file = osnet.find(source, self._shape)
        arrays = lmbn.published(load_state_dict(file, strip_prefix="module."))
        if lmbn.is_osnet(arrays):
            lmbn.assign_osnet(model, arrays, file)
        elif lmbn.shape_of(arrays, lmbn.OF_IMAGES):
            torch_names.assign(lmbn.names(lmbn.OF_IMAGES, model), arrays, file)
        else:
            lmbn.assign_teacher(model, arrays, file)

    @classmethod
    def recognize(cls, arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
        """A teacher's file, or one of ours of images, of any size."""
        arrays = lmbn.published(arrays)
        of_faces = {"data.column": "face_restored", "data.image_size": (224, 224)}
        of_images = {"model.streams": "intended"}  # The default; the file does not tell.
        for prefix, own in ((lmbn.TEACHER, of_faces), (lmbn.OF_IMAGES, of_images)):
            if all(name.startswith(f"{prefix}.") for name in arrays):
                found = lmbn.shape_of(arrays, prefix)
                return found and found | own
        return None

    def loss(
        self, model: LMBN, memory: Any, batch: Batch, key: jax.Array, clock: Clock
    ) -> tuple[jax.Array, Aux]:
        """Cross-entropy of seven heads and triplet loss of three, on augmented pictures."""
        del clock
        classes, settings = self.classes(memory, batch), self.config.loss
        heads = model(augment(key, self._pixels(batch), self._augment), train=True)
        entropies = jax.vmap(lambda h: cross_entropy(h, classes, settings.smoothing))(heads.logits)
        triplets = jax.vmap(lambda f: hard_triplet(f, classes, settings.margin))(heads.features)
        terms = {"cross_entropy": jnp.sum(entropies), "triplet": jnp.sum(triplets)}
        return sum(terms.values()), Aux(metrics=terms)

    def _pixels(self, batch: Batch) -> jax.Array:
        column = self.config.data.column
        return restored_faces(batch) if column == "face_restored" else batch.pixels[column]

    def embed(self, model: LMBN, batch: Batch, stream: str) -> jax.Array:
        """Seven columns, one after the other; all zeros for an image that lacks the picture."""
        del stream
        embedding = model(normalize(self._pixels(batch)), train=False).embedding
        if "has_face" in batch.labels:
            embedding = jnp.where(batch.labels["has_face"][:, None, None] == 1, embedding, 0)
        return flatten_columns(embedding)

    def normalize(self, features: jax.Array, stream: str) -> jax.Array:
        """Unit columns; those of zeros stay."""
        del stream
        return unit_columns(features, NUM_HEADS)


def restored_faces(batch: Batch) -> jax.Array:
    """(B, h, w, 3) uint8: restored faces, and the faces as they are where there are none."""
    restored = batch.labels["has_face_restored"][:, None, None, None] == 1
    return jnp.where(restored, batch.pixels["face_restored"], batch.pixels["face"])
