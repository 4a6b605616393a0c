"""Optimisers and learning rates as a config describes them, chained from optax's parts.

The published methods change their rate from epoch to epoch, and some have epochs of differing
length, so a schedule is a function of the run's clock (`methods.state.Clock`) and not of the number
of updates: `update` takes `clock` beside what every optax transformation takes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

Schedule = Callable[[jax.Array], jax.Array]
"""From a position in epochs, () float (2.5: half of the third), to a factor of the base rate."""


def schedule(config) -> Schedule:
    """The schedule that a config's group `schedule` describes.

    Args:
        config: `name` is one of
            `'constant'`;
            `'step'`: times `gamma` every `every` epochs;
            `'multistep'`: times `gamma` at each of `milestones`;
            `'cosine'`: 1 until epoch `start`, then along half a cosine to `floor` at epoch `end`.
            In the first `warmup_epochs` a line from `warmup_factor` to 1 multiplies it, or takes
            the cosine's place.

    Returns:
        A traceable function.
    """

    def main(epoch):
        if config.name == "constant":
            return jnp.ones_like(epoch)
        if config.name == "step":
            return jnp.asarray(config.gamma, epoch.dtype) ** jnp.floor(epoch / config.every)
        if config.name == "multistep":
            passed = jnp.sum(epoch >= jnp.asarray(config.milestones, epoch.dtype))
            return jnp.asarray(config.gamma, epoch.dtype) ** passed
        progress = jnp.clip((epoch - config.start) / (config.end - config.start), 0.0, 1.0)
        return config.floor + (1 - config.floor) * (1 + jnp.cos(jnp.pi * progress)) / 2

    def factor(epoch):
        if not config.warmup_epochs:
            return main(epoch)
        line = config.warmup_factor + (1 - config.warmup_factor) * epoch / config.warmup_epochs
        after = main(epoch)
        during = line if config.name == "cosine" else line * after
        return jnp.where(epoch < config.warmup_epochs, during, after)

    return factor


class RateState(NamedTuple):
    """The learning rate that the last update used, () float."""

    learning_rate: jax.Array


def by_clock(rate: Schedule, unit: str = "epoch") -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by minus the rate at the clock's position.

    Args:
        rate: Of a position in epochs.
        unit: `'epoch'`, so that the rate is constant within one, or `'step'`.
    """

    def init(params):
        del params
        return RateState(jnp.zeros((), float))

    def update(updates, state, params=None, *, clock, **_):
        del params, state
        position = clock.epoch.astype(float)
        if unit == "step":
            position = position + (clock.step - clock.first_step) / clock.steps
        factor = rate(position)
        return jax.tree.map(lambda u: -factor * u, updates), RateState(factor)

    return optax.GradientTransformationExtraArgs(init, update)


def adam(
    rate: Schedule,
    *,
    weight_decay: float = 0.0,
    unit: str = "epoch",
    factors: Mapping[str, float] | None = None,
    frozen: Sequence[str] = (),
) -> optax.GradientTransformationExtraArgs:
    """Adam (0.9, 0.999, 1e-8) with the decay added to the gradient (L2, not decoupled).

    Args:
        rate: The learning rate at a position in epochs.
        weight_decay: Added to the gradient, times the weight.
        unit: As for `by_clock`.
        factors: Factors of the rate by regular expressions that are searched in a parameter's
            dotted name, the first that is found counts; 1 for all others.
        frozen: Regular expressions of parameters that are neither stepped nor decayed: those that
            no gradient reaches, where PyTorch's optimisers skip what has none.

    Returns:
        A transformation whose `update` takes `clock` beside gradients, state and parameters.
    """
    chain = optax.chain(
        optax.add_decayed_weights(weight_decay), optax.scale_by_adam(), by_clock(rate, unit)
    )
    if factors:
        rules = [(re.compile(pattern), factor) for pattern, factor in factors.items()]

        def scale(updates, state, params=None, **_):
            del params

            def scaled(name, u):
                return u * next((f for pattern, f in rules if pattern.search(name)), 1.0)

            return _map_named(scaled, updates), state

        scaling = optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), scale)
        chain = optax.chain(chain, scaling)
    if not frozen:
        return chain
    patterns = [re.compile(pattern) for pattern in frozen]

    def labels(tree):
        def label(name, _):
            return "frozen" if any(p.search(name) for p in patterns) else "trained"

        return _map_named(label, tree)

    return optax.partition({"trained": chain, "frozen": optax.set_to_zero()}, labels)


def of_config(config, **options) -> optax.GradientTransformationExtraArgs:
    """The optimiser that the groups `optimizer` and `schedule` of a config describe.

    Args:
        config: The whole config.
        **options: `factors` and `frozen`, as for `adam`.
    """
    factor = schedule(config.schedule)
    return adam(
        lambda epoch: config.optimizer.learning_rate * factor(epoch),
        weight_decay=config.optimizer.weight_decay,
        unit=config.schedule.unit,
        **options,
    )


def dotted(path) -> str:
    """The name of a parameter from its path in a tree: `backbone.layers.0.1.conv1.kernel`."""
    return ".".join(str(getattr(key, "key", "")) for key in path if hasattr(key, "key"))


def _map_named(function, tree):
    return jax.tree_util.tree_map_with_path(lambda path, leaf: function(dotted(path), leaf), tree)
