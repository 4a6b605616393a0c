"""Where a run's first arrays come from, and the structure of a state without them."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from sicl_jax import devices
from sicl_jax.data.dataset import Split
from sicl_jax.methods.base import Method
from sicl_jax.methods.embedder import Embedder, batch_of, columns_of
from sicl_jax.methods.state import TrainState, Weights


class Source:
    """Where a run's first arrays come from: initial weights, and features of the training images.

    Attributes:
        method: The method.
        data: The training split.
        seed: Decides the weights that are drawn.
    """

    def __init__(self, method: Method, data: Split, seed: int):
        self.method = method
        self.data = data
        self.seed = seed

    def weights(self) -> Weights:
        """Initial weights, whole on all devices."""
        return devices.put_replicated(self.method.initial_weights(self.seed))

    def features(self, weights: Weights, stream: str) -> np.ndarray:
        """(N, D) features of all training images in evaluation mode, on the host."""
        batch_size = self.method.config.embed_batch_size
        embedder = Embedder(self.method, stream=stream, flip=False, batch_size=batch_size)
        return embedder(weights, columns_of(self.data, embedder.reads))

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a traceable function gives, whole on all devices."""
        return jax.jit(function, out_shardings=devices.replicated())(*arguments)


class Blank(Source):
    """Zeros in the place of all that costs time: for the structure of a state alone."""

    def weights(self) -> Weights:
        """Zeros of the weights' shapes."""
        weights = Weights.of(self.method.abstract_model())
        return devices.put_replicated(jax.tree.map(_blank, weights))

    def features(self, weights: Weights, stream: str) -> np.ndarray:
        """Zeros of the features' shape."""
        columns = {
            name: jax.ShapeDtypeStruct((1, *column.shape[1:]), column.dtype)
            for name, column in columns_of(self.data, self.method.streams[stream]).items()
        }
        row = jax.eval_shape(
            lambda w, c: self.method.embed(self.method.model(w), batch_of(c), stream),
            weights,
            columns,
        )
        return np.broadcast_to(np.float32(0), (len(self.data), *row.shape[1:]))

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Zeros of the result's shapes."""
        return devices.put_replicated(jax.tree.map(_blank, jax.eval_shape(function, *arguments)))


def _blank(leaf) -> np.ndarray:
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def begin(method: Method, data: Split, seed: int) -> TrainState:
    """The state of a run that begins."""
    return method.begin_stage(None, Source(method, data, seed), 0)


def abstract_state(method: Method, data: Split, stage: int = 0) -> TrainState:
    """Structure, types and shardings of a stage's states, for restoring one.

    Padded sizes may differ from epoch to epoch: a checkpoint's own shapes take precedence.
    """
    source, state = Blank(method, data, seed=0), None
    for number in range(stage + 1):
        state = method.begin_stage(state, source, number)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
    )
