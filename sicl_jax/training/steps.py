"""The compiled call: many training steps on resident images, with nothing copied in between."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sicl_jax import devices
from sicl_jax.methods.base import Batch, Method, State, TrainingData

Metrics = dict[str, jax.Array]


def put_resident(data: TrainingData, uses_masks: bool) -> Batch:
    """All training images (and masks) on the devices, split by rows.

    Returns:
        A `Batch` whose rows are all images; `indexes` counts them.
    """
    masks = devices.put_rows(data.masks) if uses_masks else None
    indexes = devices.put_rows(np.arange(len(data), dtype=np.int32))
    return Batch(indexes, devices.put_rows(data.images), masks)


def take(resident: Batch, indexes: jax.Array) -> Batch:
    """The images of a batch, gathered on the devices and split over them."""
    rows = jax.tree.map(lambda array: array[indexes], resident)
    rows = jax.lax.with_sharding_constraint(rows, jax.tree.map(lambda _: devices.by_rows(), rows))
    return Batch(indexes, rows.images, rows.masks)


def compile_train_call(
    method: Method, state: State
) -> Callable[[State, Batch, jax.Array, jax.Array], tuple[State, Metrics]]:
    """The jitted function that takes several optimiser steps.

    Args:
        method: What is trained.
        state: A state, for its shardings.

    Returns:
        A function of (state, resident images, indexes (S, B) int32, key) to the state after S
        steps and the metrics, each (S,). The state is donated. The key is folded with the batch's
        number in the run, so the draws do not depend on how steps are divided into calls.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)

    def call(state: State, resident: Batch, indexes: jax.Array, key: jax.Array):
        def step(state, batch_indexes):
            step_key = jax.random.fold_in(key, state.step)
            return method.train_step(state, take(resident, batch_indexes), step_key)

        return _repeat(step, state, indexes)

    return jax.jit(call, donate_argnums=0, out_shardings=(shardings, devices.replicated()))


def _repeat(step, state, indexes):
    """`lax.scan`; on CPUs without the loop, where XLA's convolutions are 20 times slower."""
    if jax.default_backend() != "cpu":
        return jax.lax.scan(step, state, indexes)
    metrics = []
    for batch_indexes in indexes:
        state, values = step(state, batch_indexes)
        metrics.append(values)
    return state, jax.tree.map(lambda *values: jnp.stack(values), *metrics)


def steps_per_call(wanted: int) -> int:
    """`config.steps_per_call`, or by default 1 on CPUs and 50 on accelerators."""
    return wanted or (1 if jax.default_backend() == "cpu" else 50)


def put_indexes(indexes: np.ndarray) -> jax.Array:
    """Batches of an epoch, (S, B), on all devices."""
    return devices.put(np.asarray(indexes, jnp.int32), devices.replicated())
