"""`optimizer.npz`: Adam with L2 in the gradient and the step decay (algorithm.md 7)."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import optax

from sicl_jax import config as configs
from sicl_jax import optimizers
from sicl_jax.methods.state import Clock
from sicl_jax.verify.checks import Check
from sicl_jax.verify.files import Golden

_TOLERANCE = 1e-5


def check(golden: Golden) -> Iterator[Check]:
    """Recomputes the file; its decay counts steps where training counts epochs."""
    config = configs.base("sicl")
    config.optimizer.learning_rate = float(golden["learning_rate"])
    config.optimizer.weight_decay = float(golden["weight_decay"])
    config.schedule.every, config.schedule.gamma = int(golden["step_size"]), float(golden["gamma"])
    optimizer = optimizers.of_config(config)

    weights = jnp.asarray(golden["initial"])
    state = optimizer.init(weights)
    trajectory = []
    for step, gradient in enumerate(golden["gradients"]):
        clock = Clock.at(step, epoch=step)
        updates, state = optimizer.update(jnp.asarray(gradient), state, weights, clock=clock)
        weights = optax.apply_updates(weights, updates)
        trajectory.append(weights)
    yield golden.check("trajectory", np.stack(trajectory), _TOLERANCE)
