"""Cluster Contrast (arXiv 2103.11568; `docs/methods/cluster_contrast.md`).

Clustering finds pseudo-identities in the features of all images before every epoch; a memory of
one row per cluster, which every batch moves, is what the encoder's features are contrasted with.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from sicl_jax import clustering, devices, fields, processes
from sicl_jax.clustering.oddities import clustering_warnings
from sicl_jax.data import samplers
from sicl_jax.data.augment import AugmentConfig, augment, normalize
from sicl_jax.data.dataset import Split
from sicl_jax.fields import COMMON, Field
from sicl_jax.losses import cluster_contrast
from sicl_jax.memory import padded_clusters, start_cluster_memory, update_cluster_memory
from sicl_jax.methods.base import Method, Source
from sicl_jax.methods.embedder import Embedder, columns_of
from sicl_jax.methods.state import Aux, Batch, Clock, EpochStart, TrainState, Weights
from sicl_jax.models.encoder import Encoder
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.weights import torch_names, torchvision
from sicl_jax.weights.torch_files import load_state_dict


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClusterMemory:
    """What Cluster Contrast remembers; C is padded (`memory.padded_clusters`).

    Attributes:
        labels: (N,) int32, the cluster of each image; -1 for images that are left out.
        rows: (C, D), a unit row per cluster; zeros for padding.
        counts: (C,) images of each cluster; 0 for padding.
    """

    labels: jax.Array
    rows: jax.Array
    counts: jax.Array


class ClusterContrast(Method):
    """Cluster Contrast behind the loop's interface."""

    name = "cluster_contrast"
    fields = {
        **fields.RESNET,
        **fields.AUGMENT,
        **fields.CLUSTERING,
        "model.batch_norm_parts": fields.RESNET["model.batch_norm_parts"].but(4),
        "model.pooling": Field(
            "gem",
            fields.one_of("gem", "average"),
            "Pooling of the maps: the generalised mean with a trained exponent, or the mean.",
        ),
        "memory.momentum": Field(0.1, fields.SHARE, "Weight of the old row in an update."),
        "memory.temperature": Field(0.05, fields.above_zero(1e6), "tau of the similarities."),
        "memory.hard": Field(
            False,
            fields.ANYTHING,
            "True moves a cluster once a step, by its least similar image alone.",
        ),
        "epochs": COMMON["epochs"].but(50),
        "batch_size": COMMON["batch_size"].but(256),
        "steps_per_epoch": Field(
            200, fields.COUNT_OR_NONE, "Steps of an epoch; 0 is one pass over the clusters."
        ),
        "sampler.num_instances": Field(16, fields.COUNT, "Images that a cluster gives to a batch."),
        "sampler.cameras": Field(
            True, fields.ANYTHING, "Whether these come from other cameras where there are some."
        ),
        "evaluate.every": COMMON["evaluate.every"].but(10),
        "evaluate.always_after": COMMON["evaluate.always_after"].but(50),
    }
    labels = ("camera",)
    checkpoint_prefix = "module."
    pseudo_labels = ("labels",)

    def __init__(self, config: ml_collections.ConfigDict, sizes: Mapping[str, int] | None = None):
        super().__init__(config, sizes)
        self._augment = AugmentConfig(**config.augment)
        self._shape = ResNetConfig.of(config.model)

    def build(self) -> Encoder:
        """The encoder: trunk, pooling, batch norm."""
        dtype = devices.compute_dtype(self.config.model.dtype)
        return Encoder(self._shape, pooling=self.config.model.pooling, dtype=dtype)

    def embed(self, model: Encoder, batch: Batch, stream: str) -> jax.Array:
        """The one feature, which is clustered, contrasted and tested."""
        del stream
        return model.embed(normalize(batch.pixels["image"]))

    # ---- published weights -----------------------------------------------------------------

    def load_pretrained(self, model: Encoder, source: str) -> None:
        """ImageNet weights go into the trunk, a checkpoint of the authors into all of it."""
        path = torchvision.find(source, self._shape)
        arrays = load_state_dict(path, strip_prefix=self.checkpoint_prefix)
        if self.recognize(arrays):
            torch_names.assign(self.names(model), arrays, path)
        else:
            torchvision.assign_encoder(model, arrays, path)

    def names(self, model: Encoder) -> torch_names.Names:
        """The authors' names."""
        return torch_names.encoder(model)

    @classmethod
    def recognize(cls, arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
        """A checkpoint of the authors; SiCL's have a projection beside the same names."""
        if "base.0.weight" not in arrays or "full_connect.weight" in arrays:
            return None
        pooling = "gem" if "gap.p" in arrays else "average"
        shape = torch_names.resnet_shape(arrays)
        return shape and {"model.pooling": pooling, **shape}

    # ---- before an epoch -------------------------------------------------------------------

    def initial_memory(self, weights: Weights, source: Source) -> ClusterMemory:
        """No image is in a cluster before the first epoch; there is room for any number."""
        del weights
        count = len(source.data)
        size = padded_clusters(count, count)
        return devices.put_replicated(
            ClusterMemory(
                labels=np.full(count, -1, np.int32),
                rows=np.zeros((size, self._shape.num_features), np.float32),
                counts=np.zeros(size, np.float32),
            )
        )

    def begin_epoch(
        self, state: TrainState, data: Split, epoch: int, before: Mapping[str, Any]
    ) -> EpochStart:
        """Clusters the features of all images and starts a new memory (section 3)."""
        del epoch
        features = self.features(state.weights, data)
        labels = processes.on_first(
            lambda: self.cluster(features), like=np.zeros(len(data), np.int32)
        )
        counts = np.bincount(labels[labels >= 0], minlength=1)
        unclustered = int((labels < 0).sum())
        clusters = int(labels.max()) + 1
        figures = {
            "clusters": clusters,
            "unclustered": unclustered,
            "largest_cluster": int(counts.max()),
            "pseudo_identities": clusters + unclustered,
        }
        return EpochStart(
            dataclasses.replace(state, memory=self.memory_of(labels, features)),
            figures,
            f"{clusters} clusters, {unclustered} images left out ({unclustered / len(data):.0%})",
            tuple(clustering_warnings(figures, before, len(data))),
        )

    def features(self, weights: Weights, data: Split) -> np.ndarray:
        """(N, D) unit features of all training images in evaluation mode, on the host."""
        embedder = Embedder(self, flip=False, batch_size=self.config.embed_batch_size)
        return embedder(weights, columns_of(data, embedder.reads))

    def cluster(self, features: np.ndarray) -> np.ndarray:
        """Labels (N,) int32 of DBSCAN at eps alone; -1 for images in no cluster."""
        return clustering.cluster(features, tight=False, **self.config.clustering).labels

    def memory_of(self, labels: np.ndarray, features: np.ndarray) -> ClusterMemory:
        """The memory of the unit means of clusters.

        Args:
            labels: (N,) int32, from 0 without gaps, -1 for images that are left out; on the host.
            features: (N, D) unit rows, on the host.
        """
        size = padded_clusters(int(labels.max(initial=-1)) + 1, len(labels))
        counts = np.bincount(labels[labels >= 0], minlength=size).astype(features.dtype)
        places = np.where(labels < 0, size, labels).astype(np.int32)
        placed = devices.put_replicated((places, counts))
        return ClusterMemory(
            labels=devices.put(labels, devices.replicated()),
            rows=_start()(devices.put(features, devices.replicated()), *placed),
            counts=placed[1],
        )

    def draw_batches(self, state: TrainState, data: Split, epoch: int) -> np.ndarray:
        """Batches of clusters (section 4)."""
        labels = devices.fetch(state.memory.labels)
        config = self.config
        clusters = int(labels.max()) + 1
        one_pass = clusters * config.sampler.num_instances // config.batch_size
        return samplers.draw_pseudo_identities(
            labels,
            data.labels["camera"] if config.sampler.cameras else None,
            steps=config.steps_per_epoch or max(one_pass, 1),
            batch_size=config.batch_size,
            num_instances=config.sampler.num_instances,
            rng=np.random.default_rng((config.seed, epoch)),
        )

    # ---- a step ----------------------------------------------------------------------------

    def loss(
        self, model: Encoder, memory: ClusterMemory, batch: Batch, key: jax.Array, clock: Clock
    ) -> tuple[jax.Array, Aux]:
        """Augments the images (section 1) and contrasts their features."""
        del clock
        images = augment(key, batch.pixels["image"], self._augment)
        return self.contrast(model, memory, images, batch.indexes)

    def contrast(
        self, model: Encoder, memory: ClusterMemory, images: jax.Array, indexes: jax.Array
    ) -> tuple[jax.Array, Aux]:
        """The loss of normalised images (B, H, W, 3) and the memory after it (section 5)."""
        options = self.config.memory
        labels = memory.labels[indexes]
        features = model.feature(model.pool(images, train=True), train=True)
        loss = cluster_contrast(features, memory.rows, memory.counts, labels, options.temperature)
        # A loss that is not finite leaves the memory as it is, to be looked at.
        seen = jax.lax.stop_gradient(jnp.where(jnp.isfinite(loss), features, 0.0))
        rows = update_cluster_memory(memory.rows, labels, seen, options.momentum, hard=options.hard)
        return loss, Aux(dataclasses.replace(memory, rows=rows))


@functools.cache
def _start():
    return jax.jit(start_cluster_memory, out_shardings=devices.replicated())
