"""OSNet with one head, trained by cross-entropy and the batch-hard triplet loss.

Zhou, Yang, Cavallaro, Xiang; ICCV 2019, arXiv 1905.00953. The head is the public OSNet's: pooled
maps through a linear layer, batch norm and ReLU; that is the feature.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from sicl_jax import devices, fields
from sicl_jax.data.augment import augment, normalize
from sicl_jax.fields import Field
from sicl_jax.losses import cross_entropy, hard_triplet
from sicl_jax.methods import supervised
from sicl_jax.methods.state import Aux, Batch, Clock
from sicl_jax.models.batch_norm import BatchNorm
from sicl_jax.models.layers import Linear, Normal
from sicl_jax.models.osnet import OSNet, OSNetConfig
from sicl_jax.models.resnet import average_pool
from sicl_jax.weights import osnet, torch_names
from sicl_jax.weights.torch_files import load_state_dict


class OSNetClassifier(nnx.Module):
    """An OSNet, its feature layer and a classifier.

    Args:
        config: Shape of the backbone.
        features: Size D of the feature.
        classes: C.
        dtype: Computation type of the backbone.
    """

    def __init__(self, config: OSNetConfig, features: int, classes: int, *, dtype=None):
        self.backbone = OSNet(config, dtype=dtype)
        self.linear = Linear(config.channels[-1], features, init=Normal(0.01))
        self.bn = BatchNorm(features)
        self.classifier = Linear(features, classes, init=Normal(0.01))

    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        """Maps normalised images (B, H, W, 3) to features (B, D) and logits (B, C)."""
        pooled = average_pool(self.backbone.maps(images, train=train))
        feature = jax.nn.relu(self.bn(self.linear(pooled), train=train))
        return feature, self.classifier(feature)


class Osnet(supervised.WithOSNet):
    """OSNet behind the loop's interface."""

    name = "osnet"
    fields = {
        **supervised.FIELDS,
        "data.image_size": supervised.FIELDS["data.image_size"].but((256, 128)),
        "model.features": Field(512, fields.within(1, 4096), "Size of the feature."),
        "loss.margin": supervised.FIELDS["loss.margin"].but(0.3),
    }

    def build(self) -> OSNetClassifier:
        """The network."""
        model = self.config.model
        dtype = devices.compute_dtype(model.dtype)
        return OSNetClassifier(self._shape, model.features, self.sizes["classes"], dtype=dtype)

    def names(self, model: OSNetClassifier) -> torch_names.Names:
        """The public OSNet's names."""
        return {
            **osnet.names(model.backbone),
            "fc.0.weight": model.linear.kernel,
            "fc.0.bias": model.linear.bias,
            **torch_names.batch_norm("fc.1", model.bn),
            "classifier.weight": model.classifier.kernel,
            "classifier.bias": model.classifier.bias,
        }

    def load_pretrained(self, model: OSNetClassifier, source: str) -> None:
        """The public OSNet's ImageNet file fills the backbone; one of this method's fills all."""
        file = osnet.find(source, self._shape)
        arrays = load_state_dict(file, strip_prefix="module.")
        classifier = arrays.get("classifier.weight", np.zeros((0, 0)))
        if classifier.shape[0] == self.sizes["classes"]:
            torch_names.assign(self.names(model), arrays, file)
        else:
            osnet.assign(model.backbone, arrays, file)

    @classmethod
    def recognize(cls, arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
        """A file of the public OSNet's names, of any size."""
        return osnet.shape_of(arrays)

    def loss(
        self, model: OSNetClassifier, memory: Any, batch: Batch, key: jax.Array, clock: Clock
    ) -> tuple[jax.Array, Aux]:
        """Cross-entropy and triplet loss of augmented images."""
        del clock
        classes, settings = self.classes(memory, batch), self.config.loss
        feature, logits = model(augment(key, batch.pixels["image"], self._augment), train=True)
        terms = {
            "cross_entropy": cross_entropy(logits, classes, settings.smoothing),
            "triplet": hard_triplet(feature, classes, settings.margin),
        }
        return sum(terms.values()), Aux(metrics=terms)

    def embed(self, model: OSNetClassifier, batch: Batch, stream: str) -> jax.Array:
        """The feature."""
        del stream
        return model(normalize(batch.pixels["image"]), train=False)[0]
