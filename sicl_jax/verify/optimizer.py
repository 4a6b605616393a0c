"""`optimizer.npz`: Adam with L2 in the gradient and the step decay (algorithm.md 7)."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from sicl_jax.configs import base
from sicl_jax.methods.sicl.method import Sicl, make_optimizer
from sicl_jax.verify.checks import Check, Golden

_TOLERANCE = 1e-5


def check(golden: Golden) -> Iterator[Check]:
    """Recomputes the file; its decay counts steps where training counts epochs."""
    config = base.get_config()
    config.model.stage_sizes = (1,)
    config.learning_rate = float(golden["learning_rate"])
    config.lr_step, config.lr_gamma = int(golden["step_size"]), float(golden["gamma"])
    method = Sicl(config)
    optimizer = make_optimizer(float(golden["weight_decay"]))

    weights = jnp.asarray(golden["initial"])
    state = optimizer.init(weights)
    trajectory = []
    for step, gradient in enumerate(golden["gradients"]):
        updates, state = optimizer.update(jnp.asarray(gradient), state, weights)
        weights = weights - method.learning_rate(step) * updates
        trajectory.append(weights)
    yield golden.check("trajectory", np.stack(trajectory), _TOLERANCE)
