"""CSSC's golden training steps, recomputed."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from sicl_jax import config as configs
from sicl_jax import devices
from sicl_jax.data import augment
from sicl_jax.methods.cssc import weights
from sicl_jax.methods.cssc.method import Cssc
from sicl_jax.methods.cssc.model import HEADS
from sicl_jax.methods.cssc.verify_network import OUTPUT, all_statistics, drawn_weights, mining_of
from sicl_jax.methods.embedder import Embedder
from sicl_jax.methods.state import Clock, TrainState, Weights
from sicl_jax.verify import Check, Golden
from sicl_jax.verify.checks import array_errors, group_error, norm_error, relative_error
from sicl_jax.verify.files import Arrays
from sicl_jax.weights import torch_names

# Adam divides by the gradient's magnitude: where that is small, rounding decides the direction.
_AFTER_ADAM = 1e-3
_CHANGE = 5e-2
_FINAL = ("statistics", "change_statistics", "embedding")
_TOLERANCES = {
    "rates": 1e-6,
    **dict.fromkeys(("identity_losses", "triplet_losses", "losses"), _AFTER_ADAM),
    **dict.fromkeys(("identity_losses of the first step", "losses of the first step"), OUTPUT),
    **dict.fromkeys(("step1_statistics", "final_statistics", "final_*"), _AFTER_ADAM),
    **dict.fromkeys(("step1_change_statistics", "final_change_statistics"), _CHANGE),
    "final_* less the drawn (norm)": _CHANGE,
    "final_embedding": _AFTER_ADAM,
}


def check_train_steps(golden: Golden) -> Iterator[Check]:
    """Three steps of the whole method, an epoch each, on images as they are."""
    final = [name for name in golden.with_prefix("final_") if name not in _FINAL]
    drawn = drawn_weights(golden)

    def errors(actual: Arrays, expected: Arrays) -> dict[str, float]:
        found = array_errors(actual, expected)
        for name in ("identity_losses", "losses"):
            first = relative_error(actual[name][0], expected[name][0])
            found[f"{name} of the first step"] = first
        ours, theirs = actual["final_*"], expected["final_*"]
        found["final_*"] = group_error(ours, theirs, floor=1.0)
        weights = [name for name in theirs if "running" not in name]
        found["final_* less the drawn (norm)"] = norm_error(
            {name: ours[name] - drawn[name] for name in weights},
            {name: theirs[name] - drawn[name] for name in weights},
        )
        return found

    direct = [name for name, of in _TOLERANCES.items() if of not in (_AFTER_ADAM, _CHANGE)]
    yield from golden.check_controlled(
        TrainSteps(golden, final), _TOLERANCES, errors=errors, direct=direct
    )


class TrainSteps:
    """Runs a file's training steps.

    Args:
        golden: The file, for the fields of the config.
        final: Names of the arrays to give after the last step.
    """

    def __init__(self, golden: Golden, final: Sequence[str]):
        config = configs.base("cssc")
        config.data.image_size = tuple(golden["image_size"].tolist())
        config.model.dtype = "float32"
        config.model.width = int(golden["width"])
        config.model.stage_sizes = tuple(golden["stage_sizes"].tolist())
        config.mining = dataclasses.asdict(mining_of(golden))
        config.loss.smoothing = float(golden["epsilon"])
        config.loss.margin = float(golden["margin"])
        config.loss.triplet_after = int(golden["triplet_start_epoch"])
        config.optimizer.learning_rate = float(golden["learning_rate"])
        config.optimizer.weight_decay = float(golden["weight_decay"])
        config.schedule.warmup_factor = float(golden["warmup_factor"])
        config.schedule.warmup_epochs = int(golden["warmup_epochs"])
        self._method = method = Cssc(config, {"classes": int(golden["num_classes"])})
        self._final = final
        self._embed = Embedder(method)

        @jax.jit
        def step(state, images, labels):
            return method.step(
                state, lambda model, _: method.objective(model, images, labels, state.clock)
            )

        self._step = step

    def __call__(self, golden: Golden) -> Arrays:
        """Losses of every step, weights after the first and the last, features after the last."""
        stored = golden["images"].transpose(0, 2, 3, 1)
        images = jax.jit(augment.normalize)(stored)
        drawn = drawn_weights(golden)
        model = self._method.abstract_model()
        torch_names.assign(weights.names(model), drawn, golden.file)
        state = self._method.start(devices.put_replicated(Weights.of(model)), ())
        results, terms = {}, []
        for number, rows in enumerate(golden["batches"]):
            state = dataclasses.replace(state, clock=Clock.at(number, epoch=number))
            state, metrics = self._step(state, images[rows], golden["labels"][rows])
            terms.append(metrics)
            if number == 0:
                results |= _moved("step1", drawn, self._collect(state))
        final = self._collect(state)
        results |= _moved("final", drawn, final)
        results["final_*"] = {name: final[name] for name in self._final}
        results["final_embedding"] = self._embed(state.weights, {"image": stored})
        results["rates"] = np.array([step["learning_rate"] for step in terms])
        results["losses"] = np.array([step["loss"] for step in terms])
        for kind in ("identity", "triplet"):
            results[f"{kind}_losses"] = np.array(
                [[step[f"{kind}_{name}"] for name in HEADS] for step in terms]
            )
        start = int(golden["triplet_start_epoch"])
        results["triplet_losses"] = results["triplet_losses"][start:]
        return results

    def _collect(self, state: TrainState) -> dict[str, np.ndarray]:
        model = self._method.model(state.weights)
        return torch_names.collect(weights.names(model))


def _moved(prefix: str, drawn, arrays) -> dict[str, np.ndarray]:
    """Statistics of all arrays, and of what they are less the drawn ones."""
    changes = {name: np.float64(arrays[name]) - array for name, array in drawn.items()}
    return {
        f"{prefix}_statistics": all_statistics(arrays, drawn),
        f"{prefix}_change_statistics": all_statistics(changes, drawn),
    }
