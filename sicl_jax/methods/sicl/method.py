"""SiCL: silhouette-driven contrastive learning (arXiv 2305.13600; `algorithm.md`).

RGB and silhouette encoders learn from pseudo-labels that clustering finds in the RGB memory bank;
the silhouette's knowledge of body shape is carried into the RGB encoder, which alone is tested.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import nnx

from sicl_jax import clustering, devices, memory, processes
from sicl_jax.data import samplers
from sicl_jax.data.augment import AugmentConfig, augment, normalize
from sicl_jax.errors import UsageError
from sicl_jax.methods.base import Batch, TrainingData, WeightsOnly
from sicl_jax.methods.embedder import Embedder
from sicl_jax.methods.sicl import losses
from sicl_jax.methods.sicl import weights as released
from sicl_jax.methods.sicl.model import TwoStreamModel
from sicl_jax.models.layers import Frozen, draw
from sicl_jax.models.resnet import ResNetConfig

# The padded number of clusters is one of these shares of the number of images, so that a run of
# any length compiles two training programs at most; rounded up to whole tiles of a GPU's matrix
# products, which otherwise begin by padding all prototypes.
_CLUSTER_PADDING = (1 / 2, 1)
_CLUSTER_TILE = 128


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Weights:
    """The model's arrays: trained, never trained, and running statistics.

    Attributes:
        params: Trained weights.
        frozen: Weights that stay as they are.
        statistics: Running means and variances.
    """

    params: nnx.State
    frozen: nnx.State
    statistics: nnx.State


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SiclState:
    """The whole run, as a pytree.

    Attributes:
        weights: The model's arrays.
        optimizer: Adam's moments.
        banks: Memory banks by stream: `rgb`, and `silhouette` and `fusion` where there are masks.
        clusters: This epoch's pseudo-labels.
        epoch: () int32.
        step: () int32, optimiser steps done.
    """

    weights: Weights
    optimizer: optax.OptState
    banks: dict[str, memory.Bank]
    clusters: memory.Clusters
    epoch: jax.Array
    step: jax.Array


def create(config: ml_collections.ConfigDict) -> "Sicl":
    """The method for a config.

    Raises:
        UsageError: `config.compat` is neither `'paper'` nor `'released'`.
    """
    if config.compat not in ("paper", "released"):
        raise UsageError(f"config.compat is {config.compat!r}: choose 'paper' or 'released'")
    return Sicl(config)


def make_optimizer(weight_decay: float) -> optax.GradientTransformation:
    """Adam with the decay added to the gradient (L2, not decoupled), before the learning rate."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.scale_by_adam())


class Sicl:
    """SiCL behind the loop's interface (`methods.base.Method`)."""

    pseudo_labels = ("clusters", "labels")

    def __init__(self, config: ml_collections.ConfigDict):
        self.config = config
        self.uses_masks = config.silhouettes
        self.streams = ("rgb", "silhouette", "fusion") if config.silhouettes else ("rgb",)
        self._optimizer = make_optimizer(config.weight_decay)
        self._augment = AugmentConfig(**config.augment)
        model = config.model
        self._shape = ResNetConfig(
            model.block, tuple(model.stage_sizes), model.width, model.last_stride
        )
        self._graph = nnx.graphdef(nnx.eval_shape(self._build))

    def _build(self) -> TwoStreamModel:
        return TwoStreamModel(
            self._shape,
            silhouettes=self.config.silhouettes,
            dtype=devices.compute_dtype(self.config.model.dtype),
        )

    def initial_weights(self, seed: int) -> Weights:
        """Weights drawn anew, on the host; published ones where `config.model.pretrained` says."""
        model = nnx.eval_shape(self._build)
        draw(model, seed)
        if self.config.model.pretrained:
            released.load_pretrained(model, self.config.model.pretrained, self._shape)
        return _split(model)

    def abstract_weights(self) -> Weights:
        """Shapes of the weights."""
        return _split(nnx.eval_shape(self._build))

    def model(self, weights: Weights) -> TwoStreamModel:
        """A module with these arrays; what it tracks does not change `weights`."""
        return nnx.merge(self._graph, weights.params, weights.frozen, weights.statistics, copy=True)

    # ---- before training -------------------------------------------------------------------

    def init(self, data: TrainingData, seed: int) -> SiclState:
        """Initial weights, and banks of the features that they give (section 3)."""
        return self.start_from(self.initial_weights(seed), data)

    def start_from(self, weights: Weights, data: TrainingData) -> SiclState:
        """The state before the first epoch for given weights; banks as in section 3."""
        weights = devices.put_replicated(weights)
        rows = {"rgb": self.embed_all(weights, data, stream="rgb")}
        if self.uses_masks:
            rows["silhouette"] = self.embed_all(weights, data, stream="silhouette")
            rows["fusion"] = rows["rgb"]
        # Before the first clustering every image is a cluster of its own.
        clusters = devices.put_replicated(self._grouping(np.arange(len(data)), len(data)))
        banks = {name: devices.put_rows(array) for name, array in rows.items()}
        return SiclState(
            weights=weights,
            optimizer=devices.put_replicated(_zeros(self._optimizer.init, weights.params)),
            banks={name: _regroup(array, clusters) for name, array in banks.items()},
            clusters=clusters,
            epoch=devices.put_replicated(np.zeros((), np.int32)),
            step=devices.put_replicated(np.zeros((), np.int32)),
        )

    def embed_all(self, weights: Weights, data: TrainingData, *, stream: str) -> np.ndarray:
        """(N, D) features of all training images in evaluation mode, one stream."""
        embedder = Embedder(self, stream=stream, batch_size=self.config.embed_batch_size)
        return embedder(WeightsOnly(weights), data.images, data.masks)

    def abstract_state(self, data: TrainingData) -> SiclState:
        """Structure, types and shardings of the state (`methods.base.Method`)."""
        rows, size = devices.padded_rows(len(data)), self._shape.num_features
        streams = ("rgb", "silhouette", "fusion") if self.uses_masks else ("rgb",)
        clusters = self._grouping(np.arange(len(data)), len(data))

        def array(shape, sharding):
            return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)

        def whole(tree):
            return jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=devices.replicated()),
                tree,
            )

        weights = self.abstract_weights()
        scalar = jax.ShapeDtypeStruct((), jnp.int32)
        bank = memory.Bank(
            rows=array((rows, size), devices.by_rows()),
            prototypes=array((*clusters.counts.shape, size), devices.replicated()),
        )
        return SiclState(
            weights=whole(weights),
            optimizer=whole(jax.eval_shape(self._optimizer.init, weights.params)),
            banks=dict.fromkeys(streams, bank),
            clusters=whole(clusters),
            epoch=whole(scalar),
            step=whole(scalar),
        )

    # ---- before an epoch -------------------------------------------------------------------

    def begin_epoch(
        self, state: SiclState, data: TrainingData, epoch: int
    ) -> tuple[SiclState, dict[str, Any]]:
        """Pseudo-labels from the RGB bank, and the neighbours of each cluster (section 4)."""
        rows = devices.fetch(state.banks["rgb"].rows)[: len(data)]
        labels, figures = processes.on_first(
            lambda: _cluster(rows, self.config.clustering),
            like=(np.zeros(len(data), np.int32), np.zeros(3, np.int32)),
        )
        state = self.with_labels(state, labels, epoch)
        return state, {
            "clusters": int(figures[0]),
            "unclustered": int(figures[1]),
            "largest_cluster": int(figures[2]),
            "pseudo_identities": int(labels.max()) + 1,
            "neighbors": epoch * self.config.neighbors.num // self.config.epochs,
        }

    def with_labels(self, state: SiclState, labels: np.ndarray, epoch: int) -> SiclState:
        """The state with an epoch's pseudo-labels (N,), from 0 without gaps, on the host."""
        num_clusters = int(labels.max()) + 1
        clusters = devices.put_replicated(self._grouping(labels, num_clusters))
        banks = {name: _regroup(bank.rows, clusters) for name, bank in state.banks.items()}
        return dataclasses.replace(
            state,
            banks=banks,
            clusters=self._with_neighbors(clusters, banks, num_clusters, epoch),
            epoch=devices.put_replicated(np.asarray(epoch, np.int32)),
        )

    def _grouping(self, labels: np.ndarray, num_clusters: int) -> memory.Clusters:
        """Host arrays of the labels, padded, still without neighbours."""
        size = _padded_clusters(num_clusters, len(labels))
        table = np.zeros((size, max(self.config.neighbors.num, 1)), np.int32)
        return memory.Clusters(
            labels=_pad_labels(labels, size),
            counts=np.bincount(labels, minlength=size).astype(np.float32),
            neighbor_labels=table,
            neighbor_similarity=np.zeros(table.shape, np.float32),
            num_neighbors=np.zeros((), np.int32),
        )

    def _with_neighbors(
        self,
        clusters: memory.Clusters,
        banks: dict[str, memory.Bank],
        num_clusters: int,
        epoch: int,
    ) -> memory.Clusters:
        """The clusters with their K_e = floor(e K / E) neighbours in the fusion bank."""
        config = self.config
        num_neighbors = epoch * config.neighbors.num // config.epochs
        if not num_neighbors:
            return clusters
        # Without silhouettes there is no fusion bank and the RGB bank takes its place.
        bank = banks["fusion"] if self.uses_masks else banks["rgb"]
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

    def draw_batches(self, state: SiclState, data: TrainingData, epoch: int) -> np.ndarray:
        """Batches of pseudo-identities, four images each (section 5)."""
        return samplers.draw_pseudo_identities(
            devices.fetch(state.clusters.labels)[: len(data)],
            data.cameras,
            steps=self.config.steps_per_epoch,
            batch_size=self.config.batch_size,
            num_instances=self.config.num_instances,
            rng=np.random.default_rng((self.config.seed, epoch)),
        )

    # ---- a step ----------------------------------------------------------------------------

    def train_step(
        self, state: SiclState, batch: Batch, key: jax.Array
    ) -> tuple[SiclState, dict[str, jax.Array]]:
        """Augments, draws the neighbours and takes one optimiser step."""
        rgb_key, silhouette_key, draw_key = jax.random.split(key, 3)
        images = {"rgb": augment(rgb_key, batch.images, self._augment)}
        if self.uses_masks:
            images["silhouette"] = augment(silhouette_key, batch.masks, self._augment)
        neighbors = _neighbors_of(state.clusters, batch.indexes)
        draws = {
            name: losses.draw_neighbors(stream_key, neighbors.similarity)
            for name, stream_key in zip(images, jax.random.split(draw_key), strict=False)
        }
        return self.optimizer_step(state, batch.indexes, images, neighbors, draws)

    def optimizer_step(
        self,
        state: SiclState,
        indexes: jax.Array,
        images: dict[str, jax.Array],
        neighbors: losses.Neighbors,
        draws: dict[str, jax.Array],
    ) -> tuple[SiclState, dict[str, jax.Array]]:
        """One step on given, already normalised images.

        Args:
            state: The run.
            indexes: (B,) int32.
            images: By stream `rgb` (and `silhouette`): (B, H, W, 3) float32.
            neighbors: The neighbour clusters of each sample.
            draws: By stream: (B, K) zeros and ones, the neighbours that take part.

        Returns:
            The state after the step, and the loss with its terms.
        """

        def objective(params):
            weights = dataclasses.replace(state.weights, params=params)
            return self._forward(state, weights, indexes, images, neighbors, draws)

        params = state.weights.params
        (loss, (features, statistics, terms)), gradients = jax.value_and_grad(
            objective, has_aux=True
        )(params)
        # A loss that is not finite leaves the banks as they are, to be looked at.
        finite = jnp.isfinite(loss)
        banks = {
            name: memory.update(
                bank,
                state.clusters,
                indexes,
                jnp.where(finite, features[name], 0.0),
                self.config.memory.momentum,
            )
            for name, bank in state.banks.items()
        }
        updates, optimizer = self._optimizer.update(gradients, state.optimizer, params)
        rate = self.learning_rate(state.epoch)
        params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        state = SiclState(
            weights=Weights(params, state.weights.frozen, statistics),
            optimizer=optimizer,
            banks=banks,
            clusters=state.clusters,
            epoch=state.epoch,
            step=state.step + 1,
        )
        return state, {"loss": loss, **terms, "learning_rate": rate}

    def learning_rate(self, epoch: jax.Array) -> jax.Array:
        """Base rate times gamma every `config.lr_step` epochs (section 7)."""
        config = self.config
        return config.learning_rate * config.lr_gamma ** (epoch // config.lr_step)

    def _forward(self, state, weights, indexes, images, neighbors, draws):
        """The loss (section 6); beside it features by bank, running statistics and loss terms."""
        model = self.model(weights)
        streams = {"rgb": model.rgb, "silhouette": model.silhouette}
        codes = {name: streams[name](images[name], train=True) for name in images}
        features = {name: code.feature for name, code in codes.items()}
        if self.uses_masks:
            features["fusion"] = model.fuse(features["rgb"], features["silhouette"], train=True)

        labels = state.clusters.labels[indexes]
        terms = {}
        for name, feature in features.items():
            probabilities = losses.cluster_probabilities(
                feature,
                state.banks[name].prototypes,
                state.clusters.counts,
                self.config.memory.temperature,
            )
            terms[f"{name}_prototype"] = losses.prototype_loss(probabilities, labels)
            if name in draws and self.config.neighbors.num:
                terms[f"{name}_neighbor"] = losses.neighbor_loss(
                    probabilities, neighbors, draws[name], compat=self.config.compat
                )
        if self.uses_masks:
            prototypes = state.banks["silhouette"].prototypes[labels]
            projection = codes["rgb"].projection
            terms["cross_prototype"] = losses.negative_cosine(prototypes, projection)
            terms["cross_instance"] = losses.negative_cosine(features["silhouette"], projection)
        return sum(terms.values()), (features, nnx.state(model, nnx.BatchStat), terms)

    # ---- features --------------------------------------------------------------------------

    def embed(
        self,
        state: SiclState | WeightsOnly,
        images: jax.Array | None,
        masks: jax.Array | None = None,
        stream: str = "rgb",
    ) -> jax.Array:
        """Features of one stream in evaluation mode; a test uses `rgb` alone (section 8)."""
        model = self.model(state.weights)
        if stream == "silhouette":
            return model.silhouette.embed(normalize(masks))
        rgb = model.rgb.embed(normalize(images))
        if stream == "rgb":
            return rgb
        return model.fuse(rgb, model.silhouette.embed(normalize(masks)), train=False)


def _split(model: TwoStreamModel) -> Weights:
    _, *parts = nnx.split(model, nnx.Param, Frozen, nnx.BatchStat)
    return Weights(*parts)


def _zeros(function, *arguments):
    """What `function` returns, were it all zeros: nothing to compile, as Adam's first moments."""
    shapes = jax.eval_shape(function, *arguments)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def _cluster(rows: np.ndarray, config) -> tuple[np.ndarray, np.ndarray]:
    """Pseudo-labels (N,) int32; numbers of clusters, unclustered images, the largest's images."""
    found = clustering.cluster(rows, **config)
    figures = np.array([found.num_clusters, found.num_unclustered, found.counts.max()], np.int32)
    return found.labels.astype(np.int32), figures


def _neighbors_of(clusters: memory.Clusters, indexes: jax.Array) -> losses.Neighbors:
    labels = clusters.labels[indexes]
    return losses.Neighbors(
        clusters.neighbor_labels[labels],
        clusters.neighbor_similarity[labels],
        clusters.num_neighbors,
    )


def _padded_clusters(num_clusters: int, num_images: int) -> int:
    tiles = (int(np.ceil(num_images * share / _CLUSTER_TILE)) for share in _CLUSTER_PADDING)
    return next(n * _CLUSTER_TILE for n in tiles if n * _CLUSTER_TILE >= num_clusters)


def _pad_labels(labels: np.ndarray, no_cluster: int) -> np.ndarray:
    """Labels for padded rows too; those belong to no cluster."""
    padded = np.full(devices.padded_rows(len(labels)), no_cluster, np.int32)
    padded[: len(labels)] = labels
    return padded


def _regroup(rows: jax.Array, clusters: memory.Clusters) -> memory.Bank:
    """The bank of these rows: rows split over the devices, prototypes whole on each."""
    return _compiled_regroup()(rows, clusters)


@functools.cache
def _compiled_regroup():
    shardings = memory.Bank(devices.by_rows(), devices.replicated())
    return jax.jit(memory.regroup, out_shardings=shardings)
