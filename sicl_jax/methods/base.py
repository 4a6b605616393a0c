"""What a method is: four functions of its own, and defaults for all else that a run asks of it.

A method says what it reads (`forms`, `labels`), which network it trains (`build`), what a step
minimises (`loss`), of which images (`draw_batches`), and what is compared at test (`embed`). The
loop, checkpoints, tests, reports, export and search know it by this class alone.
"""

import abc
import dataclasses
import functools
import importlib.util
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, Self

import jax
import ml_collections
import numpy as np
import optax
from flax import nnx

from sicl_jax import devices, fields, optimizers
from sicl_jax.clustering.dbscan import give_own_clusters
from sicl_jax.data.dataset import Form, Split
from sicl_jax.errors import UsageError
from sicl_jax.evaluation.agreement import agreement
from sicl_jax.fields import Field
from sicl_jax.methods.state import Aux, Batch, Clock, EpochStart, Stage, TrainState, Weights
from sicl_jax.models.layers import draw, l2_normalize
from sicl_jax.weights import torch_names
from sicl_jax.weights.torch_files import load_state_dict


class Source(Protocol):
    """Where a run's first arrays come from (`methods.source`).

    Attributes:
        data: The training split.
    """

    data: Split

    def weights(self) -> Weights:
        """Initial weights, whole on all devices."""

    def features(self, weights: Weights, stream: str) -> np.ndarray:
        """(N, D) features of all training images in evaluation mode, on the host."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a traceable function gives, whole on all devices."""


class Method(abc.ABC):
    """A way to train, and the model that it trains.

    Attributes:
        name: As in `config.method`.
        fields: The config fields that it adds to the common ones, or whose defaults it changes.
        labels: Label columns that training reads. What is not named here cannot be used.
        streams: What features can be made of, and the columns that each reads; the first is tested.
        released_selection: Protocols by whose mAP the published code chooses its best checkpoint,
            by data set; `config.evaluate.select_by='released'` asks for them.
        checkpoint_prefix: What the published checkpoints have before each of `names`.
        similarity: How features are compared: `'euclidean'` or `'dot'`.
        pseudo_labels: Where in the memory the pseudo-labels are, (N or more,) int32, -1 for images
            in no cluster, as names of nested fields; empty for a method that has none.
    """

    name: ClassVar[str]
    fields: ClassVar[Mapping[str, Field]] = {}
    labels: tuple[str, ...] = ()
    streams: Mapping[str, tuple[str, ...]] = {"image": ("image",)}
    released_selection: ClassVar[Mapping[str, str]] = {}
    checkpoint_prefix: ClassVar[str] = ""
    similarity: ClassVar[str] = "euclidean"
    pseudo_labels: tuple[str, ...] = ()

    def __init__(self, config: ml_collections.ConfigDict, sizes: Mapping[str, int] | None = None):
        """Keeps the config; a method checks here what ranges of single fields cannot say.

        Args:
            config: The experiment.
            sizes: What `measure` gave when the run began; empty before that.

        Raises:
            UsageError: Fields do not fit together.
        """
        self.config = config
        self.sizes = dict(sizes or {})
        fields.check_together(config)

    # ---- what a method has to say ----------------------------------------------------------

    @abc.abstractmethod
    def build(self) -> nnx.Module:
        """The network, of the sizes in `self.sizes`.

        Weights are made by `models.layers.param`, so that they are drawn as they say.
        """

    @abc.abstractmethod
    def loss(
        self, model: nnx.Module, memory: Any, batch: Batch, key: jax.Array, clock: Clock
    ) -> tuple[jax.Array, Aux]:
        """What a step minimises; pure and traceable.

        Args:
            model: The network; what it tracks (running statistics) is kept.
            memory: As it was after the last step.
            batch: As stored.
            key: Decides all that is random in this step.
            clock: When.
        """

    @abc.abstractmethod
    def draw_batches(self, state: TrainState, data: Split, epoch: int) -> np.ndarray:
        """(S, B) int32, the images of every step of an epoch; the same whenever asked.

        S may differ from epoch to epoch.
        """

    @abc.abstractmethod
    def embed(self, model: nnx.Module, batch: Batch, stream: str) -> jax.Array:
        """(B, D) features in evaluation mode of one view of each image; traceable.

        `Embedder` adds the mirrored view where that is asked for, then calls `normalize`.

        Args:
            model: The network.
            batch: The columns that `streams` names for the stream.
            stream: One of `streams`.
        """

    # ---- what it may say otherwise ---------------------------------------------------------

    @property
    def forms(self) -> dict[str, Form]:
        """Pixel columns that it reads in training, and how they are resized."""
        return {"image": Form(tuple(self.config.data.image_size), self.config.data.resize)}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The parts of a run, in order: one, with the config's optimiser."""
        return (Stage("train", self.config.epochs, optimizers.of_config(self.config)),)

    def normalize(self, features: jax.Array, stream: str) -> jax.Array:  # noqa: ARG002
        """Features (B, D) of a stream as they are compared: unit rows."""
        return l2_normalize(features)

    def measure(self, data: Split, state: TrainState | None) -> dict[str, int]:  # noqa: ARG002
        """Sizes of the network that the data decide (classes, say); kept with every checkpoint.

        Asked for when a stage begins.

        Args:
            data: The training split.
            state: At the end of the stage before; None before the first.
        """
        return self.sizes

    def check(self, data: Split) -> list[str]:  # noqa: ARG002
        """Warnings about training data that are odd.

        Raises:
            UserError: They cannot be trained on; the message names the remedy.
        """
        return []

    def check_start(self, data: Split, fingerprint: str) -> list[str]:  # noqa: ARG002
        """Warnings about what a run needs to begin, and not to go on: weights that it reads, say.

        Args:
            data: The training split.
            fingerprint: Of the data set.

        Raises:
            UserError: It is missing or does not fit; the message names the remedy.
        """
        return []

    @property
    def tested(self) -> tuple[str, ...]:
        """Streams that are tested while training; the first one chooses the best checkpoint."""
        return (next(iter(self.streams)),)

    def after_test(
        self,
        state: TrainState,
        scores: Mapping[str, float],  # noqa: ARG002
    ) -> tuple[TrainState, dict[str, int]]:
        """The run once all `tested` streams but the first have been.

        Args:
            state: The run.
            scores: mAP by stream.

        Returns:
            The run; and the steps by stream of the networks that the first stream's test combines,
            empty where it tests the run's own weights.
        """
        return state, {}

    def abstract_kept(self) -> Any:
        """Structure of the memory's field `kept`, which a test needs; None where there is none."""
        return None

    def served(self, weights: Weights, kept: Any) -> Weights:  # noqa: ARG002
        """The weights that are tested, exported and searched with; those trained by default.

        Args:
            weights: The run's.
            kept: The memory's field of that name.
        """
        return weights

    def initial_memory(self, weights: Weights, source: Source) -> Any:  # noqa: ARG002
        """What the method remembers before the first step, on the devices.

        Args:
            weights: On the devices.
            source: Of the training split and its features.
        """
        return ()

    def begin_stage(self, state: TrainState | None, source: Source, stage: int) -> TrainState:
        """The run at the beginning of a stage, whose optimiser is new.

        By default the first stage has initial weights and the first memory, and a later one goes
        on with what the one before left.

        Args:
            state: At the end of the stage before; None before the first.
            source: Of initial weights and of features.
            stage: Number of the stage.
        """
        if state is None:
            weights = source.weights()
            return self.start(weights, self.initial_memory(weights, source), stage=stage)
        return self.start(state.weights, state.memory, stage=stage, step=int(state.clock.step))

    def begin_epoch(
        self,
        state: TrainState,
        data: Split,  # noqa: ARG002
        epoch: int,  # noqa: ARG002
        before: Mapping[str, Any],  # noqa: ARG002
    ) -> EpochStart:
        """Host work before an epoch's steps (clustering, say).

        Args:
            state: The run.
            data: The training split.
            epoch: Counted from 0 at its stage's beginning.
            before: Figures of the epoch before; empty in the run's first.
        """
        return EpochStart(state)

    def diagnose(self, memory: Any, data: Split) -> dict[str, float]:
        """What identities tell of an epoch's beginning: for people to see, never trained on.

        By default how the pseudo-labels agree with them (`evaluation.agreement`).

        Args:
            memory: As `begin_epoch` left it.
            data: The training split.
        """
        if not self.pseudo_labels:
            return {}
        labels = devices.fetch(functools.reduce(getattr, self.pseudo_labels, memory))
        return agreement(give_own_clusters(labels[: len(data)]), data.labels["identity"])

    def names(self, model: nnx.Module) -> torch_names.Names:
        """Names of the model's arrays in the published checkpoints; our own where there are none.

        Exports are written under these names, and published checkpoints are read by them.
        """
        return {
            ".".join(map(str, path)): variable
            for path, variable in nnx.iter_graph(model)
            if isinstance(variable, nnx.Variable)
        }

    def checkpoint(self, model: nnx.Module, *, epoch: int, steps: int) -> dict[str, Any]:
        """What the published code would save of a model, or what comes nearest.

        Args:
            model: The network.
            epoch: Epochs trained.
            steps: Optimiser steps trained.
        """
        names, prefix = self.names(model), self.checkpoint_prefix
        return torch_names.checkpoint(names, prefix=prefix, epoch=epoch, steps=steps)

    def draw_weights(self, model: nnx.Module, seed: int) -> None:
        """Fills a model by its weights' own initialisers, before any weights are loaded."""
        draw(model, seed)

    def load_pretrained(self, model: nnx.Module, source: str) -> None:
        """Fills a model from the weights that `config.model.pretrained` names.

        Args:
            model: The network; what the weights do not hold stays as it is.
            source: A file, or a name that the method knows.

        Raises:
            UserError: The file is missing, cannot be read or does not fit the model.
        """
        arrays = load_state_dict(source, strip_prefix="module.")
        torch_names.assign(self.names(model), arrays, source)

    @classmethod
    def recognize(cls, arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:  # noqa: ARG003
        """Config fields of the model in a published checkpoint; None if it is not this method's.

        Beside them `sizes` may say what `measure` would.

        Args:
            arrays: By the checkpoint's names, less `module.`.
        """
        return None

    @classmethod
    def golden_checks(cls) -> dict[str, Any]:
        """Checks of the published code's numbers, by the stem of a file (`sicl_jax.verify`).

        By default `CHECKS` of the module `verify` beside the method's own, if there is one.
        """
        package = cls.__module__.rpartition(".")[0]
        if not package or importlib.util.find_spec(f"{package}.verify") is None:
            return {}
        return getattr(importlib.import_module(f"{package}.verify"), "CHECKS", {})

    def select_by(self, dataset_name: str) -> str | None:
        """The protocol whose mAP chooses the best checkpoint; None for the data set's own choice.

        Args:
            dataset_name: As in `config.data.name`.

        Raises:
            UsageError: The published code's choice is asked for and none is known.
        """
        asked = self.config.evaluate.select_by
        if asked != "released":
            return asked or None
        name = dataset_name.partition("/")[0]
        if name not in self.released_selection:
            known = ", ".join(self.released_selection) or "no data set"
            raise UsageError(
                f"--config.evaluate.select_by=released: {self.name} has a published choice for "
                f"{known}, not for {name}; name a protocol"
            )
        return self.released_selection[name]

    # ---- what follows from it --------------------------------------------------------------

    def sized(self, sizes: Mapping[str, int]) -> Self:
        """The same method for a network of other sizes; itself where they are the same."""
        return self if dict(sizes) == self.sizes else type(self)(self.config, sizes)

    def start(self, weights: Weights, memory: Any, *, stage: int = 0, step: int = 0) -> TrainState:
        """A state with a new optimiser, from weights and memory on the devices."""
        of = self._stages[stage]
        init = jax.jit(of.optimizer.init, out_shardings=devices.replicated())
        clock = Clock.at(step, stage=stage, phase=of.phase(0))
        return TrainState(weights, init(weights.params), memory, clock)

    def abstract_model(self) -> nnx.Module:
        """The network with shapes and types in place of arrays; a new one at each call."""
        return nnx.merge(*self._described, copy=True)

    @functools.cached_property
    def _described(self) -> tuple[nnx.GraphDef, nnx.State]:
        return nnx.split(nnx.eval_shape(self.build))

    def initial_weights(self, seed: int) -> Weights:
        """Weights drawn anew; a file's or a run's where `config.model.pretrained` names one."""
        model = self.abstract_model()
        self.draw_weights(model, seed)
        source = self.config.model.pretrained
        if source and pathlib.Path(source).is_dir():
            from sicl_jax.runs import saved  # Runs know methods.

            saved.fill(model, self, pathlib.Path(source))
        elif source:
            self.load_pretrained(model, source)
        return Weights.of(model)

    def model(self, weights: Weights) -> nnx.Module:
        """A module with these arrays; what it tracks does not change `weights`."""
        return nnx.merge(
            self._described[0], weights.params, weights.frozen, weights.statistics, copy=True
        )

    @functools.cached_property
    def _stages(self) -> tuple[Stage, ...]:
        return self.stages

    def train_step(
        self, state: TrainState, batch: Batch, key: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One optimiser step, pure and traceable; beside the state, numbers to log."""
        return self.step(
            state,
            lambda model, memory: self.loss(model, memory, batch, key, state.clock),
        )

    def step(
        self, state: TrainState, objective: Callable[[nnx.Module, Any], tuple[jax.Array, Aux]]
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One optimiser step that minimises a function of the network and the memory."""

        def value(params):
            model = self.model(dataclasses.replace(state.weights, params=params))
            loss, aux = objective(model, state.memory)
            return loss, (aux, nnx.state(model, nnx.BatchStat))

        params = state.weights.params
        gradient = jax.value_and_grad(value, has_aux=True)
        (loss, (aux, statistics)), gradients = gradient(params)
        updates, optimizer = self._stages[state.clock.stage].optimizer.update(
            gradients, state.optimizer, params, clock=state.clock
        )
        rate = optax.tree_utils.tree_get(optimizer, "learning_rate")
        state = TrainState(
            weights=Weights(optax.apply_updates(params, updates), state.weights.frozen, statistics),
            optimizer=optimizer,
            memory=state.memory if aux.memory is None else aux.memory,
            clock=dataclasses.replace(state.clock, step=state.clock.step + 1),
        )
        return state, {"loss": loss, **aux.metrics, "learning_rate": rate}
