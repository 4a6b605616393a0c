"""CCLNet behind the loop's interface (ACM MM 2023; `docs/methods/cclnet.md`).

Stage 0 learns by clusters alone, and leaves pseudo-labels. Stage 1 learns a prompt for each of
these clusters. Stage 2 trains CLIP's image encoder anew, with clusters and prompts.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from sicl_jax import clustering, devices, processes
from sicl_jax.clustering.dbscan import give_own_clusters
from sicl_jax.clustering.oddities import clustering_warnings
from sicl_jax.data import samplers
from sicl_jax.data.augment import AugmentConfig, apply, draw, normalize
from sicl_jax.data.dataset import Split
from sicl_jax.errors import UsageError, UserError
from sicl_jax.evaluation.agreement import agreement, matching_agreement
from sicl_jax.losses import cluster_contrast
from sicl_jax.memory import padded_clusters, start_cluster_memory, update_cluster_memory
from sicl_jax.methods.base import Method, Source
from sicl_jax.methods.cclnet import losses, prompts, settings
from sicl_jax.methods.cclnet import weights as published
from sicl_jax.methods.cclnet.memories import (
    MODALITIES,
    ClusterMemory,
    Described,
    PromptMemory,
    of_modalities,
)
from sicl_jax.methods.cclnet.model import CrossModalModel
from sicl_jax.methods.cclnet.stages import stages_of
from sicl_jax.methods.embedder import Embedder, columns_of
from sicl_jax.methods.state import Aux, Batch, Clock, EpochStart, Stage, TrainState, Weights
from sicl_jax.models.clip import ClipConfig
from sicl_jax.models.layers import l2_normalize
from sicl_jax.weights import torch_names

_READS = ("image", "modality")


class CclNet(Method):
    """CCLNet behind the loop's interface.

    Attributes:
        sentences: Token ids (context,) of the visible and of the infrared prompt, and where the
            learned ones stand.
    """

    name = "cclnet"
    similarity = "dot"
    labels = ("modality",)
    streams = {"image": _READS, "projection": _READS}
    pseudo_labels = ("labels",)
    fields = settings.FIELDS

    def __init__(self, config: ml_collections.ConfigDict, sizes: Mapping[str, int] | None = None):
        super().__init__(config, sizes)
        if config.batch_size % (2 * config.sampler.num_instances):
            raise UsageError(
                f"--config.batch_size={config.batch_size}: half of it is of either modality, so it "
                "has to be a multiple of twice --config.sampler.num_instances="
                f"{config.sampler.num_instances}"
            )
        self._augment = AugmentConfig(**config.augment)
        self._shape = ClipConfig.of(config.model)
        self.sentences = [
            prompts.token_ids(config.prompts[name], config.prompts.merges, self._shape.context)
            for name in MODALITIES
        ]

    def build(self) -> CrossModalModel:
        """The network, with as many prompts as stage 0 left clusters."""
        return CrossModalModel(
            self._shape,
            image_size=tuple(self.config.data.image_size),
            classes=tuple(self.sizes.get(f"{name}_classes", 1) for name in MODALITIES),
            prompts=[shape for _, shape in self.sentences],
            dtype=devices.compute_dtype(self.config.model.dtype),
        )

    @property
    def num_features(self) -> int:
        """Size of the feature that is clustered and tested."""
        return self._shape.num_features

    def embed(self, model: CrossModalModel, batch: Batch, stream: str) -> jax.Array:
        """The feature that is clustered and tested; or z, which is compared with texts."""
        encode = model.project if stream == "projection" else model.embed
        return encode(normalize(batch.pixels["image"]), batch.labels["modality"] == 1)

    def normalize(self, features: jax.Array, stream: str) -> jax.Array:
        """Unit rows; z stays as it is."""
        return features if stream == "projection" else l2_normalize(features)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those that `config.stages` names (sections 6 and 7)."""
        return stages_of(self.config)

    # ---- data ------------------------------------------------------------------------------

    def check(self, data: Split) -> list[str]:
        """Refuses training images of one modality, or of an unknown one."""
        name, modality = self.config.data.name, data.labels["modality"]
        if unknown := np.count_nonzero(modality < 0):
            raise UserError(
                f"{name}: the modality of {unknown} of {len(data)} training images is unknown; "
                "prepare it with a column modality, or from folders rgb/ and ir/"
            )
        for number, modality_name in enumerate(MODALITIES):
            if not np.any(modality == number):
                raise UserError(
                    f"{name}: none of {len(data)} training images is {modality_name}; CCLNet "
                    "learns from visible and infrared images at once"
                )
        return []

    def measure(self, data: Split, state: TrainState | None) -> dict[str, int]:  # noqa: ARG002
        """As many prompts as stage 0's last epoch has clusters."""
        if state is None or state.clock.stage:
            return self.sizes
        first, end = self._bounds(state.memory)
        return {"visible_classes": first, "infrared_classes": end - first}

    # ---- published weights -----------------------------------------------------------------

    def load_pretrained(self, model: CrossModalModel, source: str) -> None:
        """CLIP's weights fill all but bottleneck and prompts, the authors' checkpoint all."""
        published.load_pretrained(
            model,
            source,
            self._shape,
            image_size=tuple(self.config.data.image_size),
            sentences=[ids for ids, _ in self.sentences],
        )

    def names(self, model: CrossModalModel) -> torch_names.Names:
        """The authors' names."""
        return published.names(model)

    def checkpoint(self, model: CrossModalModel, *, epoch: int, steps: int) -> dict[str, Any]:
        """What the authors' training script would save."""
        return published.checkpoint(model, epoch=epoch, steps=steps)

    @classmethod
    def recognize(cls, arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
        """A checkpoint of the authors, of any size."""
        return published.recognize(arrays)

    # ---- the beginning of a stage ----------------------------------------------------------

    def initial_memory(self, weights: Weights, source: Source) -> ClusterMemory:
        """No image is in a cluster before the first epoch; there is room for any number."""
        del weights
        return self._empty(len(source.data))

    def _empty(self, count: int, described: Described | tuple = ()) -> ClusterMemory:
        size = padded_clusters(count, count)
        shape = (size, self.num_features)
        rows, counts = (
            tuple(np.zeros(each, np.float32) for _ in MODALITIES) for each in (shape, size)
        )
        labels = np.full(count, -1, np.int32)
        memory = devices.put_replicated(ClusterMemory(labels, np.int32(0), rows, counts))
        return dataclasses.replace(memory, described=described)

    def begin_stage(self, state: TrainState | None, source: Source, stage: int) -> TrainState:
        """CLIP and no clusters; CLIP and its projections; CLIP, prompts and their texts."""
        if state is None:
            return super().begin_stage(state, source, stage)
        weights, labels, first = state.weights, state.memory.labels, state.memory.first_infrared
        if stage == 1:
            weights = source.weights()
            projections = source.features(weights, "projection")
            projections = devices.put(projections, devices.replicated())
            memory: Any = PromptMemory(labels, first, projections)
        else:
            texts = source.run(self.describe, weights)
            memory = self._empty(len(source.data), Described(labels, first, texts))
        return self.start(weights, memory, stage=stage, step=int(state.clock.step))

    def describe(self, weights: Weights) -> tuple[jax.Array, jax.Array]:
        """Text features of all visible and of all infrared prompts, (C, E) and (C', E)."""
        model = self.model(weights)
        return tuple(
            model.describe(each, jnp.arange(len(each.learned[...])))
            for each in (model.visible_prompts, model.infrared_prompts)
        )

    # ---- before an epoch -------------------------------------------------------------------

    def begin_epoch(
        self, state: TrainState, data: Split, epoch: int, before: Mapping[str, Any]
    ) -> EpochStart:
        """Clusters the features of each modality and starts new memories (section 3)."""
        del epoch
        if state.clock.stage == 1:
            return EpochStart(state)
        features = self.features(state.weights, data)
        modality = data.labels["modality"]
        labels = processes.on_first(
            lambda: self.cluster(features, modality), like=np.zeros(len(data), np.int32)
        )
        of_each = [self._figures(labels[modality == m]) for m in range(len(MODALITIES))]
        first = of_each[0]["clusters"]
        memory = self.memory_of(labels, first, features, state.memory.described)
        figures = {
            **{name: of_each[0][name] + of_each[1][name] for name in of_each[0]},
            "largest_cluster": max(each["largest_cluster"] for each in of_each),
        }
        warnings: list[str] = []
        for modality_name, each in zip(MODALITIES, of_each, strict=True):
            named = {f"{modality_name}_{name}": value for name, value in each.items()}
            earlier = {name: before.get(f"{modality_name}_{name}", 0) for name in each}
            images = int(np.sum(modality == MODALITIES.index(modality_name)))
            found = clustering_warnings(each, earlier, images)
            if 0 < each["clusters"] < self._clusters_of_batch:
                found.append(
                    f"{each['clusters']} clusters are fewer than the {self._clusters_of_batch} of "
                    "a batch, which has some of them more than once; if it lasts, raise "
                    "--config.clustering.eps or lower --config.clustering.min_samples"
                )
            warnings += [f"{modality_name} images: {words}" for words in found]
            figures |= named
        note = " and ".join(
            f"{each['clusters']} {modality_name} clusters"
            for modality_name, each in zip(MODALITIES, of_each, strict=True)
        )
        share = figures["unclustered"] / len(data)
        return EpochStart(
            dataclasses.replace(state, memory=memory),
            figures,
            f"{note}, {figures['unclustered']} images left out ({share:.0%})",
            tuple(warnings),
        )

    @property
    def _clusters_of_batch(self) -> int:
        return self.config.batch_size // (2 * self.config.sampler.num_instances)

    @staticmethod
    def _figures(labels: np.ndarray) -> dict[str, int]:
        sizes = np.unique(labels[labels >= 0], return_counts=True)[1]
        unclustered = int(np.count_nonzero(labels < 0))
        return {
            "clusters": len(sizes),
            "unclustered": unclustered,
            "largest_cluster": int(sizes.max(initial=0)),
            "pseudo_identities": len(sizes) + unclustered,
        }

    def features(self, weights: Weights, data: Split) -> np.ndarray:
        """(N, D) unit features of all training images in evaluation mode, on the host."""
        embedder = Embedder(self, flip=False, batch_size=self.config.embed_batch_size)
        return embedder(weights, columns_of(data, embedder.reads))

    def cluster(self, features: np.ndarray, modality: np.ndarray) -> np.ndarray:
        """Labels (N,) int32 of DBSCAN on each modality alone, counted on from the one to the other.

        Args:
            features: (N, D) unit rows.
            modality: (N,) int, 0 visible and 1 infrared.

        Returns:
            -1 for images in no cluster; infrared clusters follow the visible ones.
        """
        labels, first = np.full(len(features), -1, np.int32), 0
        for number in range(len(MODALITIES)):
            rows = np.flatnonzero(modality == number)
            found = clustering.cluster(features[rows], tight=False, **self.config.clustering).labels
            labels[rows] = np.where(found < 0, -1, found + first)
            first += int(found.max(initial=-1)) + 1
        return labels

    def memory_of(
        self,
        labels: np.ndarray,
        first_infrared: int,
        features: np.ndarray,
        described: Described | tuple = (),
    ) -> ClusterMemory:
        """The memories of the unit means of clusters.

        Args:
            labels: (N,) int32, as `cluster` gives them.
            first_infrared: The number of visible clusters.
            features: (N, D) unit rows, on the host.
            described: As in `ClusterMemory`.
        """
        clusters = int(labels.max(initial=-1)) + 1
        bounds, rows, counts = (0, first_infrared, clusters), [], []
        features = devices.put(features, devices.replicated())
        for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
            size = padded_clusters(end - begin, len(labels))
            places = np.where((labels >= begin) & (labels < end), labels - begin, size)
            members = np.bincount(places, minlength=size)[:size].astype(features.dtype)
            placed = devices.put_replicated((places.astype(np.int32), members))
            rows.append(_start()(features, *placed))
            counts.append(placed[1])
        return ClusterMemory(
            labels=devices.put(labels, devices.replicated()),
            first_infrared=devices.put(np.int32(first_infrared), devices.replicated()),
            rows=tuple(rows),
            counts=tuple(counts),
            described=described,
        )

    @staticmethod
    def _bounds(memory: ClusterMemory | PromptMemory) -> tuple[int, int]:
        """Numbers of the first infrared cluster, and of all clusters."""
        labels = devices.fetch(memory.labels)
        return int(devices.fetch(memory.first_infrared)), int(labels.max(initial=-1)) + 1

    def diagnose(self, memory: ClusterMemory | PromptMemory, data: Split) -> dict[str, float]:
        """Agreement of each modality's clusters, and how often a matched pair is one person."""
        if isinstance(memory, PromptMemory):
            return {}
        figures = super().diagnose(memory, data)
        labels, identities = devices.fetch(memory.labels), data.labels["identity"]
        for number, name in enumerate(MODALITIES):
            rows = np.flatnonzero(data.labels["modality"] == number)
            own = give_own_clusters(labels[rows])
            found = agreement(own, identities[rows])
            figures |= {f"{name}_{figure}": value for figure, value in found.items()}
        first, end = self._bounds(memory)
        visible, infrared = (
            devices.fetch(rows)[:size]
            for rows, size in zip(memory.rows, (first, end - first), strict=True)
        )
        if len(visible) and len(infrared):
            partners = losses.match(visible @ infrared.T)
            pairs = np.flatnonzero(partners >= 0)
            figures["pairs"] = len(pairs)
            pairs = np.stack([pairs, first + partners[pairs]], axis=1)
            figures |= matching_agreement(labels, identities, pairs)
        return figures

    def draw_batches(self, state: TrainState, data: Split, epoch: int) -> np.ndarray:
        """Batches of clusters (section 5), or of stage 1's pairs of images (section 6)."""
        labels = devices.fetch(state.memory.labels)[: len(data)]
        infrared = data.labels["modality"] == 1
        rng = np.random.default_rng((self.config.seed, state.clock.stage, epoch))
        if state.clock.stage == 1:
            return samplers.draw_modality_pairs(
                *(np.flatnonzero((labels >= 0) & (infrared == one)) for one in (False, True)),
                batch_size=self.config.prompts.batch_size,
                rng=rng,
            )
        first = int(devices.fetch(state.memory.first_infrared))
        return samplers.draw_cross_modality(
            np.where(infrared & (labels >= 0), labels - first, labels),
            infrared,
            num_clusters=self._clusters_of_batch,
            num_instances=self.config.sampler.num_instances,
            rng=rng,
        )

    # ---- a step ----------------------------------------------------------------------------

    def loss(
        self, model: CrossModalModel, memory: Any, batch: Batch, key: jax.Array, clock: Clock
    ) -> tuple[jax.Array, Aux]:
        """Stage 1's contrast; else augments the images (section 1), grey for visible ones alone."""
        if clock.stage == 1:
            return self.prompt_loss(model, memory, batch.indexes)
        size = len(batch.indexes)
        draws = draw(key, size, self._augment)
        draws = draws._replace(grey=jnp.where(jnp.arange(size) < size // 2, draws.grey, 1.0))
        images = apply(draws, batch.pixels["image"], self._augment)
        return self.objective(model, memory, images, batch.indexes, clock)

    def prompt_loss(
        self, model: CrossModalModel, memory: PromptMemory, indexes: jax.Array
    ) -> tuple[jax.Array, Aux]:
        """Stage 1's loss (section 6) of images (B,), visible ones in the first half, -1 filling."""
        of_prompts = (model.visible_prompts, model.infrared_prompts)
        firsts, terms = (0, memory.first_infrared), {}
        for name, part, first, rows in zip(
            MODALITIES, of_prompts, firsts, jnp.split(indexes, 2), strict=True
        ):
            labels = jnp.where(rows >= 0, memory.labels[rows] - first, -1)
            images = memory.projections[rows]
            texts = model.describe(part, jnp.maximum(labels, 0))
            there, back = ((images, texts), (texts, images))
            terms[name] = sum(losses.contrast(*pair, labels) for pair in (there, back))
        return sum(terms.values()), Aux(metrics=terms)

    def objective(
        self,
        model: CrossModalModel,
        memory: ClusterMemory,
        images: jax.Array,
        indexes: jax.Array,
        clock: Clock,
    ) -> tuple[jax.Array, Aux]:
        """The loss of stages 0 and 2, and the memory after it (section 4).

        Args:
            model: The network.
            memory: As before the step.
            images: (B, H, W, 3), normalised, visible ones in the first half.
            indexes: (B,) int32, their rows in the split.
            clock: When: a stage's second phase exchanges matched clusters.
        """
        encoding = model(images, len(images) // 2, train=True)
        features = jnp.split(l2_normalize(encoding.feature), 2)
        labels = of_modalities(memory, indexes)
        terms = {
            name: cluster_contrast(*of_modality, self.config.memory.temperature)
            for name, *of_modality in zip(
                MODALITIES, features, memory.rows, memory.counts, labels, strict=True
            )
        }
        if described := memory.described:
            for name, *of_modality in zip(
                MODALITIES,
                jnp.split(encoding.projection, 2),
                described.texts,
                of_modalities(described, indexes),
                strict=True,
            ):
                terms[f"{name}_text"] = losses.text_loss(*of_modality)
        loss = sum(terms.values())
        # A loss that is not finite leaves the memory as it is, to be looked at.
        seen = [jax.lax.stop_gradient(jnp.where(jnp.isfinite(loss), x, 0.0)) for x in features]
        rows, pairs = self._updated(memory, labels, seen, clock)
        return loss, Aux(dataclasses.replace(memory, rows=rows), {**terms, "matched_pairs": pairs})

    def _updated(
        self, memory: ClusterMemory, labels: list[jax.Array], features: list[jax.Array], clock
    ) -> tuple[tuple[jax.Array, ...], jax.Array]:
        """Both memories after a step, and how many pairs were matched."""
        moved = tuple(
            update_cluster_memory(*of_modality, self.config.memory.momentum)
            for of_modality in zip(memory.rows, labels, features, strict=True)
        )
        if clock.phase == 0:
            return moved, jnp.zeros((), jnp.int32)
        partners = losses.matched(*moved, memory.counts)
        weight = self.config.exchange.weight
        rows = losses.exchange(*moved, partners, tuple(labels), weight, compat=self.config.compat)
        return rows, jnp.sum(partners >= 0)


@functools.cache
def _start():
    return jax.jit(start_cluster_memory, out_shardings=devices.replicated())
