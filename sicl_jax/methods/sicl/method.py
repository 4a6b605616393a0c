"""SiCL: silhouette-driven contrastive learning (arXiv 2305.13600; `algorithm.md`).

RGB and silhouette encoders learn from pseudo-labels that clustering finds in the RGB memory bank;
the silhouette's knowledge of body shape is carried into the RGB encoder, which alone is tested.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
from jax import numpy as jnp

from sicl_jax import clustering, devices, fields, processes
from sicl_jax.clustering.oddities import clustering_warnings
from sicl_jax.data import samplers
from sicl_jax.data.augment import AugmentConfig, augment, normalize
from sicl_jax.data.dataset import Form, Split
from sicl_jax.errors import UserError
from sicl_jax.evaluation.agreement import neighbor_agreement
from sicl_jax.fields import Field
from sicl_jax.masks.quality import empty_masks_warning
from sicl_jax.memory import Bank, Clusters, padded_clusters, regroup, update
from sicl_jax.methods.base import Method, Source
from sicl_jax.methods.sicl import losses
from sicl_jax.methods.sicl import weights as released
from sicl_jax.methods.sicl.model import TwoStreamModel
from sicl_jax.methods.state import Aux, Batch, Clock, EpochStart, TrainState, Weights
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.weights import torch_names, torchvision


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SiclMemory:
    """What SiCL remembers.

    Attributes:
        banks: Memory banks by stream: `rgb`, and `silhouette` and `fusion` where there are masks.
        clusters: This epoch's pseudo-labels.
    """

    banks: dict[str, Bank]
    clusters: Clusters


class Sicl(Method):
    """SiCL behind the loop's interface."""

    name = "sicl"
    fields = {
        **fields.RESNET,
        **fields.AUGMENT,
        **fields.CLUSTERING,
        "compat": Field(
            "released",
            fields.one_of("released", "paper"),
            "released computes what the published code computes, paper what the formulas say.",
        ),
        "silhouettes": Field(True, fields.ANYTHING, "False trains the RGB stream alone."),
        "data.mask_mode": Field(
            "silhouette",
            fields.one_of("silhouette", "parsing"),
            "silhouette (person or not) or parsing (luminance of the parser's palette).",
        ),
        "memory.momentum": Field(0.2, fields.SHARE, "Weight of the old row in an update."),
        "memory.temperature": Field(0.05, fields.above_zero(1e6), "tau of the similarities."),
        "neighbors.num": Field(
            5,
            fields.within(0, 10_000),
            "Neighbour clusters at the curriculum's end; 0 switches the neighbour loss off.",
        ),
        "clustering.eps_gap": Field(0.02, fields.within(0, 1), "eps of tight clusters is less by."),
        "clustering.refine": Field(True, fields.ANYTHING, "Whether clusters are refined."),
        "clustering.ratio": Field(
            1.0, fields.within(0, 1e6), "Factor of a sample's tight score in the refinement."
        ),
        "steps_per_epoch": Field(400, fields.COUNT, "Steps of an epoch."),
        "sampler.num_instances": Field(
            4, fields.COUNT, "Images that a pseudo-identity gives to a batch."
        ),
        "sampler.cameras": Field(
            True,
            fields.ANYTHING,
            "Whether these come from other cameras where there are some. The released loaders of "
            "PRCC and Celeb-reID give all images one camera; compat=paper always heeds cameras.",
        ),
    }
    labels = ("camera",)
    checkpoint_prefix = "module."
    pseudo_labels = ("clusters", "labels")

    def __init__(self, config: ml_collections.ConfigDict, sizes: Mapping[str, int] | None = None):
        super().__init__(config, sizes)
        self.streams = {"rgb": ("image",)}
        if config.silhouettes:
            self.streams |= {"silhouette": ("mask",), "fusion": ("image", "mask")}
        self._augment = AugmentConfig(**config.augment)
        self._shape = ResNetConfig.of(config.model)

    def build(self) -> TwoStreamModel:
        """Both encoders and the fusion head, or the RGB encoder alone."""
        return TwoStreamModel(
            self._shape,
            silhouettes=self.config.silhouettes,
            dtype=devices.compute_dtype(self.config.model.dtype),
        )

    @property
    def _heeds_cameras(self) -> bool:
        return self.config.sampler.cameras or self.config.compat == "paper"

    @property
    def forms(self) -> dict[str, Form]:
        """Images, and masks where silhouettes are used."""
        size, forms = tuple(self.config.data.image_size), super().forms
        if self.config.silhouettes:
            forms["mask"] = Form(size, mode=self.config.data.mask_mode)
        return forms

    def check(self, data: Split) -> list[str]:
        """Refuses missing masks and more neighbours than there can be; warns of empty masks."""
        if (most := len(data) - 1) < (num := self.config.neighbors.num):
            raise UserError(
                f"--config.neighbors.num={num}: {len(data)} training images have at most {most} "
                "neighbour clusters; 3 to 10 are usual"
            )
        if not self.config.silhouettes:
            return []
        if not data.all_have("mask"):
            missing = int((data.labels["has_mask"] == 0).sum())
            raise UserError(
                f"{self.config.data.name}: {missing} of {len(data)} training images have no mask; "
                "prepare it with --masks, or train with --config.silhouettes=False"
            )
        warning = empty_masks_warning(data.pixels["mask"])
        return [warning] if warning else []

    # ---- published weights -----------------------------------------------------------------

    def load_pretrained(self, model: TwoStreamModel, source: str) -> None:
        """A ResNet's weights go into both streams, a checkpoint of the authors into the RGB one."""
        released.load_pretrained(model, source, self._shape)

    def names(self, model: TwoStreamModel):
        """The authors' names of the RGB encoder, the one that is tested."""
        return released.names(model.rgb)

    @classmethod
    def recognize(cls, arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
        """A checkpoint of the authors, or a ResNet of torchvision's names: an RGB encoder."""
        shape = torch_names.resnet_shape(torchvision.backbone(arrays))
        return shape and {"silhouettes": False, **shape}

    # ---- before an epoch -------------------------------------------------------------------

    def initial_memory(self, weights: Weights, source: Source) -> SiclMemory:
        """Banks of the features that the initial weights give (section 3)."""
        rows = {"rgb": source.features(weights, "rgb")}
        if self.config.silhouettes:
            rows["silhouette"] = source.features(weights, "silhouette")
            rows["fusion"] = rows["rgb"]
        # Before the first clustering every image is a cluster of its own.
        count = len(source.data)
        clusters = devices.put_replicated(self._grouping(np.arange(count), count))
        banks = {name: devices.put_rows(array) for name, array in rows.items()}
        return SiclMemory(
            {name: _regroup(array, clusters) for name, array in banks.items()}, clusters
        )

    def begin_epoch(
        self, state: TrainState, data: Split, epoch: int, before: Mapping[str, Any]
    ) -> EpochStart:
        """Pseudo-labels from the RGB bank, and the neighbours of each cluster (section 4)."""
        rows = devices.fetch(state.memory.banks["rgb"].rows)[: len(data)]
        labels, figures = processes.on_first(
            lambda: _cluster(rows, self.config.clustering),
            like=(np.zeros(len(data), np.int32), np.zeros(4, np.int32)),
        )
        clusters, unclustered, largest, ties = map(int, figures)
        neighbors = epoch * self.config.neighbors.num // self.config.epochs
        figures = {
            "clusters": clusters,
            "unclustered": unclustered,
            "largest_cluster": largest,
            "ties": ties,
            "pseudo_identities": int(labels.max()) + 1,
            "neighbors": neighbors,
        }
        warnings = clustering_warnings(figures, before, len(data))
        if not warnings and neighbors >= (identities := figures["pseudo_identities"]):
            warnings.append(
                f"{neighbors} neighbour clusters are asked for, and each has {identities - 1} "
                "others: all count as neighbours; lower --config.neighbors.num"
            )
        return EpochStart(
            self.with_labels(state, labels, epoch),
            figures,
            f"{clusters} clusters, {unclustered} lone images ({unclustered / len(data):.0%})",
            tuple(warnings),
        )

    def diagnose(self, memory: SiclMemory, data: Split) -> dict[str, float]:
        """Adds how many neighbour clusters show the same person."""
        figures, clusters = super().diagnose(memory, data), memory.clusters
        labels = devices.fetch(clusters.labels)[: len(data)]
        neighbors = devices.fetch(clusters.neighbor_labels)[: int(labels.max()) + 1]
        return figures | neighbor_agreement(
            labels, data.labels["identity"], neighbors[:, : int(clusters.num_neighbors)]
        )

    def with_labels(self, state: TrainState, labels: np.ndarray, epoch: int) -> TrainState:
        """The state with an epoch's pseudo-labels (N,), from 0 without gaps, on the host."""
        num_clusters = int(labels.max()) + 1
        clusters = devices.put_replicated(self._grouping(labels, num_clusters))
        banks = {name: _regroup(bank.rows, clusters) for name, bank in state.memory.banks.items()}
        clusters = self._with_neighbors(clusters, banks, num_clusters, epoch)
        return dataclasses.replace(state, memory=SiclMemory(banks, clusters))

    def _grouping(self, labels: np.ndarray, num_clusters: int) -> Clusters:
        """Host arrays of the labels, padded, still without neighbours."""
        size = padded_clusters(num_clusters, len(labels))
        table = np.zeros((size, max(self.config.neighbors.num, 1)), np.int32)
        return Clusters(
            labels=_pad_labels(labels, size),
            counts=np.bincount(labels, minlength=size).astype(np.float32),
            neighbor_labels=table,
            neighbor_similarity=np.zeros(table.shape, np.float32),
            num_neighbors=np.zeros((), np.int32),
        )

    def _with_neighbors(
        self,
        clusters: Clusters,
        banks: dict[str, Bank],
        num_clusters: int,
        epoch: int,
    ) -> Clusters:
        """The clusters with their K_e = floor(e K / E) neighbours in the fusion bank."""
        config = self.config
        num_neighbors = epoch * config.neighbors.num // config.epochs
        if not num_neighbors:
            return clusters
        # Without silhouettes there is no fusion bank and the RGB bank takes its place.
        bank = banks["fusion"] if self.config.silhouettes else banks["rgb"]
        prototypes = devices.fetch(bank.prototypes)[:num_clusters]
        table = np.zeros(clusters.neighbor_labels.shape, np.int32)
        similarity = np.zeros(table.shape, np.float32)

        def find():
            near, how = clustering.neighbor_clusters(prototypes, num_neighbors, config.compat)
            table[: near.shape[0], : near.shape[1]] = near
            similarity[: near.shape[0], : near.shape[1]] = how
            return table, similarity

        table, similarity = processes.on_first(find, like=(table, similarity))
        return dataclasses.replace(
            clusters,
            neighbor_labels=devices.put(table, devices.replicated()),
            neighbor_similarity=devices.put(similarity, devices.replicated()),
            num_neighbors=devices.put(np.asarray(num_neighbors, np.int32), devices.replicated()),
        )

    def draw_batches(self, state: TrainState, data: Split, epoch: int) -> np.ndarray:
        """Batches of pseudo-identities, four images each (section 5)."""
        return samplers.draw_pseudo_identities(
            devices.fetch(state.memory.clusters.labels)[: len(data)],
            data.labels["camera"] if self._heeds_cameras else None,
            steps=self.config.steps_per_epoch,
            batch_size=self.config.batch_size,
            num_instances=self.config.sampler.num_instances,
            rng=np.random.default_rng((self.config.seed, epoch)),
        )

    # ---- a step ----------------------------------------------------------------------------

    def loss(
        self, model: TwoStreamModel, memory: SiclMemory, batch: Batch, key: jax.Array, clock: Clock
    ) -> tuple[jax.Array, Aux]:
        """Augments, draws the neighbours and computes the loss."""
        del clock
        rgb_key, silhouette_key, draw_key = jax.random.split(key, 3)
        images = {"rgb": augment(rgb_key, batch.pixels["image"], self._augment)}
        if self.config.silhouettes:
            images["silhouette"] = augment(silhouette_key, batch.pixels["mask"], self._augment)
        neighbors = _neighbors_of(memory.clusters, batch.indexes)
        draws = {
            name: losses.draw_neighbors(stream_key, neighbors.similarity)
            for name, stream_key in zip(images, jax.random.split(draw_key), strict=False)
        }
        return self.objective(model, memory, batch.indexes, images, neighbors, draws)

    def objective(
        self,
        model: TwoStreamModel,
        memory: SiclMemory,
        indexes: jax.Array,
        images: dict[str, jax.Array],
        neighbors: losses.Neighbors,
        draws: dict[str, jax.Array],
    ) -> tuple[jax.Array, Aux]:
        """The loss (section 6) of given, already normalised images.

        Args:
            model: In training mode.
            memory: Before the step.
            indexes: (B,) int32.
            images: By stream `rgb` (and `silhouette`): (B, H, W, 3) float32.
            neighbors: The neighbour clusters of each sample.
            draws: By stream: (B, K) zeros and ones, the neighbours that take part.

        Returns:
            The loss; beside it the banks after the step and the loss's terms.
        """
        config = self.config
        streams = {"rgb": model.rgb, "silhouette": model.silhouette}
        codes = {name: streams[name](images[name], train=True) for name in images}
        features = {name: code.feature for name, code in codes.items()}
        if config.silhouettes:
            features["fusion"] = model.fuse(features["rgb"], features["silhouette"], train=True)

        labels = memory.clusters.labels[indexes]
        terms = {}
        for name, feature in features.items():
            probabilities = losses.cluster_probabilities(
                feature,
                memory.banks[name].prototypes,
                memory.clusters.counts,
                config.memory.temperature,
            )
            terms[f"{name}_prototype"] = losses.prototype_loss(probabilities, labels)
            if name in draws and config.neighbors.num:
                terms[f"{name}_neighbor"] = losses.neighbor_loss(
                    probabilities, neighbors, draws[name], compat=config.compat
                )
        if config.silhouettes:
            prototypes = memory.banks["silhouette"].prototypes[labels]
            projection = codes["rgb"].projection
            terms["cross_prototype"] = losses.negative_cosine(prototypes, projection)
            terms["cross_instance"] = losses.negative_cosine(features["silhouette"], projection)
        loss = sum(terms.values())
        # A loss that is not finite leaves the banks as they are, to be looked at.
        finite = jnp.isfinite(loss)
        banks = {
            name: update(
                bank,
                memory.clusters,
                indexes,
                jax.lax.stop_gradient(jnp.where(finite, features[name], 0.0)),
                config.memory.momentum,
            )
            for name, bank in memory.banks.items()
        }
        return loss, Aux(SiclMemory(banks, memory.clusters), terms)

    # ---- features --------------------------------------------------------------------------

    def embed(self, model: TwoStreamModel, batch: Batch, stream: str) -> jax.Array:
        """Features of one stream; a test uses `rgb` alone (section 8)."""
        if stream == "silhouette":
            return model.silhouette.embed(normalize(batch.pixels["mask"]))
        rgb = model.rgb.embed(normalize(batch.pixels["image"]))
        if stream == "rgb":
            return rgb
        silhouette = model.silhouette.embed(normalize(batch.pixels["mask"]))
        return model.fuse(rgb, silhouette, train=False)


def _cluster(rows: np.ndarray, config) -> tuple[np.ndarray, np.ndarray]:
    """Pseudo-labels (N,) int32; clusters, lone images, images of the largest cluster, and ties."""
    found = clustering.cluster(rows, **config)
    largest = found.counts.max()
    groups = found.num_clusters - found.num_unclustered  # Lone images are not clusters.
    figures = (groups, found.num_unclustered, largest, found.num_ties)
    return found.labels.astype(np.int32), np.array(figures, np.int32)


def _neighbors_of(clusters: Clusters, indexes: jax.Array) -> losses.Neighbors:
    labels = clusters.labels[indexes]
    return losses.Neighbors(
        clusters.neighbor_labels[labels],
        clusters.neighbor_similarity[labels],
        clusters.num_neighbors,
    )


def _pad_labels(labels: np.ndarray, no_cluster: int) -> np.ndarray:
    """Labels for padded rows too; those belong to no cluster."""
    padded = np.full(devices.padded_rows(len(labels)), no_cluster, np.int32)
    padded[: len(labels)] = labels
    return padded


def _regroup(rows: jax.Array, clusters: Clusters) -> Bank:
    """The bank of these rows: rows split over the devices, prototypes whole on each."""
    return _compiled_regroup()(rows, clusters)


@functools.cache
def _compiled_regroup():
    shardings = Bank(devices.by_rows(), devices.replicated())
    return jax.jit(regroup, out_shardings=shardings)
