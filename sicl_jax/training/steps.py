"""The compiled call: many training steps, with nothing copied in between."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sicl_jax import devices
from sicl_jax.data.dataset import Split
from sicl_jax.errors import UsageError
from sicl_jax.methods.base import Method
from sicl_jax.methods.embedder import columns_of
from sicl_jax.methods.state import TrainState
from sicl_jax.training.feeds import Feed, ResidentFeed

Metrics = dict[str, jax.Array]


def compile_train_call(
    method: Method, state: TrainState, feed: Feed
) -> Callable[[TrainState, Any, Any, jax.Array], tuple[TrainState, Metrics]]:
    """The jitted function that takes several optimiser steps.

    Args:
        method: What is trained.
        state: A state, for its shardings.
        feed: Where batches come from.

    Returns:
        A function of (state, `feed.resident`, what `feed.calls` gives for S steps, seed () uint32)
        to the state after S steps and the metrics, each (S,). The state is donated. The seed's key
        is folded with the batch's number in the run, so the draws do not depend on how steps are
        divided into calls.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    shardings = dataclasses.replace(shardings, clock=devices.replicated())  # Of any phase.

    def call(state: TrainState, resident: Any, steps: Any, seed: jax.Array):
        def step(state, sent):
            step_key = jax.random.fold_in(jax.random.key(seed), state.clock.step)
            return method.train_step(state, feed.batch(resident, sent), step_key)

        return repeat(step, state, steps)

    return jax.jit(call, donate_argnums=0, out_shardings=(shardings, devices.replicated()))


def lower_train_call(method: Method, state: TrainState, data: Split, platform: str):
    """The training call on described arrays, lowered for a platform that need not be there.

    Args:
        method: What is trained.
        state: Shapes, types and shardings of a state (`methods.source.abstract_state`).
        data: The training split, all of it resident; of its columns only shapes are read.
        platform: `'cpu'` or `'cuda'`.

    Returns:
        The `jax.stages.Lowered` call of `steps_per_call` steps.
    """
    config = method.config
    feed = ResidentFeed.abstract(columns_of(data, (*method.forms, *method.labels)))
    size = (steps_per_call(config.steps_per_call, feed), config.batch_size)
    batches = jax.ShapeDtypeStruct(size, jnp.int32, sharding=devices.replicated())
    seed = jax.ShapeDtypeStruct((), jnp.uint32, sharding=devices.replicated())
    call = compile_train_call(method, state, feed)
    return call.trace(state, feed.resident, batches, seed).lower(lowering_platforms=(platform,))


def repeat(step, state, steps):
    """`lax.scan`; on CPUs without the loop, where XLA's convolutions are 20 times slower."""
    if not devices.on_cpu():
        return jax.lax.scan(step, state, steps)
    metrics = []
    for number in range(len(jax.tree.leaves(steps)[0])):
        sent = jax.tree.map(lambda leaf: leaf[number], steps)  # noqa: B023 (called at once)
        state, values = step(state, sent)
        metrics.append(values)
    return state, jax.tree.map(lambda *values: jnp.stack(values), *metrics)


def steps_per_call(wanted: int, feed: Feed) -> int:
    """`config.steps_per_call`, or by default 1 on CPUs and the feed's own on accelerators."""
    return wanted or (1 if devices.on_cpu() else feed.steps_per_call)


def check_batch_size(batch_size: int) -> None:
    """Refuses a batch that cannot be split evenly.

    Raises:
        UsageError: The number of devices does not divide it.
    """
    count = devices.mesh().size
    if batch_size % count:
        raise UsageError(
            f"--config.batch_size={batch_size} cannot be split evenly over {count} devices; "
            f"choose a multiple of {count}, such as {devices.padded_rows(batch_size)}"
        )
