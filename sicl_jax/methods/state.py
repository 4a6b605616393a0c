"""A run's state between steps, and what a method and the loop hand each other.

With the config, a `TrainState` is the whole run: nothing else may change between steps.
"""

import dataclasses
from typing import Any, NamedTuple, Self

import jax
import numpy as np
import optax
from flax import nnx

from sicl_jax import devices
from sicl_jax.models.layers import Frozen


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Some images as they are stored; augmentation is the method's.

    Attributes:
        indexes: (B,) int32, their rows in the split; -1 for what only fills the batch.
        pixels: uint8 by column: `image` (B, H, W, 3), `mask` (B, H, W), ...
        labels: (B,) int32 by column: `identity`, `camera`, ...; -1 is unknown.
    """

    indexes: jax.Array
    pixels: dict[str, jax.Array]
    labels: dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Weights:
    """A model's arrays.

    Attributes:
        params: Trained weights.
        frozen: Weights that stay as they are.
        statistics: Running means and variances.
    """

    params: nnx.State
    frozen: nnx.State
    statistics: nnx.State

    @classmethod
    def of(cls, model: nnx.Module) -> "Weights":
        """The arrays of a module."""
        _, *parts = nnx.split(model, nnx.Param, Frozen, nnx.BatchStat)
        return cls(*parts)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Clock:
    """When a step is taken; all but the stage () int32.

    Attributes:
        step: Optimiser steps done in the run.
        epoch: The epoch under way, from 0 at its stage's beginning.
        first_step: `step` at the epoch's beginning.
        steps: Steps of this epoch.
        stage: Number of the stage; part of the compiled program.
        phase: Number of the stage's phase (`Stage.phases`); part of the program too.
    """

    step: jax.Array
    epoch: jax.Array
    first_step: jax.Array
    steps: jax.Array
    stage: int = dataclasses.field(default=0, metadata={"static": True})
    phase: int = dataclasses.field(default=0, metadata={"static": True})

    @classmethod
    def at(
        cls,
        step: int,
        epoch: int = 0,
        steps: int = 1,
        stage: int = 0,
        phase: int = 0,
        *,
        first_step: int | None = None,
    ) -> Self:
        """A clock on all devices; at an epoch's beginning unless `first_step` says otherwise."""
        first_step = step if first_step is None else first_step
        numbers = (np.asarray(number, np.int32) for number in (step, epoch, first_step, steps))
        return cls(*devices.put_replicated(tuple(numbers)), stage, phase)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """A run, as a pytree.

    Attributes:
        weights: The model's arrays.
        optimizer: The optimiser's state.
        memory: What the method remembers beside them (banks, pseudo-labels, features); () if
            nothing.
        clock: Where the run is.
    """

    weights: Weights
    optimizer: optax.OptState
    memory: Any
    clock: Clock


class Stage(NamedTuple):
    """A part of a run with an optimiser of its own.

    Attributes:
        name: What it is called in logs.
        epochs: How many it takes.
        optimizer: Made by `optimizers`: `update` takes `clock`.
        reads: Columns that its batches have; those of the method if None.
        tested: Whether what is tested learns in it: if not, no test is due.
        anew: Whether it begins with initial weights, so that no earlier stage has the run's best.
        phases: Epochs with which another phase begins, for whose steps another program is compiled.
    """

    name: str
    epochs: int
    optimizer: optax.GradientTransformationExtraArgs
    reads: tuple[str, ...] | None = None
    tested: bool = True
    anew: bool = False
    phases: tuple[int, ...] = ()

    def phase(self, epoch: int) -> int:
        """The phase of an epoch, both counted from 0."""
        return sum(epoch >= first for first in self.phases)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Aux:
    """What a loss gives beside its value.

    Attributes:
        memory: The memory after the step; None where a step does not change it.
        metrics: Numbers to log, () each, such as the loss's terms.
    """

    memory: Any = None
    metrics: dict[str, jax.Array] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class EpochStart:
    """What a method did before an epoch's steps.

    Attributes:
        state: The run, ready for them.
        figures: Numbers for the log.
        note: What of it a person should read in the epoch's line; may be empty.
        warnings: What is odd, what it means and what helps.
    """

    state: TrainState
    figures: dict[str, float] = dataclasses.field(default_factory=dict)
    note: str = ""
    warnings: tuple[str, ...] = ()
