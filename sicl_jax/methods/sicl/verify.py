"""SiCL's golden files: losses and memory, the model, three training steps (`sicl_jax.verify`)."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sicl_jax import memory, optimizers
from sicl_jax.methods.sicl import losses
from sicl_jax.methods.sicl import weights as released_weights
from sicl_jax.methods.sicl.method import Sicl, SiclMemory
from sicl_jax.methods.sicl.model import TwoStreamModel
from sicl_jax.methods.state import Clock, TrainState, Weights
from sicl_jax.verify import clustering, evaluation, samplers, schp
from sicl_jax.verify.checks import Arrays, Check, array_errors, group_error
from sicl_jax.verify.files import Golden
from sicl_jax.verify.networks import first_gradients, nhwc, trained, zeros_of
from sicl_jax.weights import torch_names

# ---- memory.npz: loss terms, their gradients, the bank's update (algorithm.md 3 and 6) ---------

_TOLERANCE = 1e-4
# The published code's modes: the fusion bank, the RGB bank and the silhouette bank.
_MODES = {
    0: ("prototype",),
    1: ("prototype", "neighbor", "cross_prototype", "cross_instance"),
    2: ("prototype", "neighbor"),
}


def check_memory(golden: Golden) -> Iterator[Check]:
    """Recomputes `memory.npz`."""
    clusters = _clusters(golden["labels"], num_neighbors=0, columns=1)
    bank = memory.regroup(jnp.asarray(golden["bank"]), clusters)
    inputs, other = jnp.asarray(golden["inputs"]), jnp.asarray(golden["other_stream"])

    def terms(inputs, other):
        return _terms(golden, clusters, bank, inputs, other)

    for name, value in jax.jit(terms)(inputs, other).items():
        yield golden.check(f"{name}_loss", value, _TOLERANCE)
    for mode, names in _MODES.items():

        def loss(inputs, other, names=names):
            parts = terms(inputs, other)
            return sum(parts[name] for name in names)

        value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(inputs, other)
        yield golden.check(f"loss_mode{mode}", value, _TOLERANCE)
        yield golden.check(f"grad_inputs_mode{mode}", gradients[0], _TOLERANCE)
        if "cross_instance" in names:
            yield golden.check(f"grad_other_mode{mode}", gradients[1], _TOLERANCE)

    indexes = jnp.asarray(golden["indexes"], jnp.int32)
    momentum = float(golden["momentum"])
    after = jax.jit(memory.update, static_argnums=4)(bank, clusters, indexes, inputs, momentum)
    yield golden.check("features_after", after.rows, _TOLERANCE)


def _clusters(labels: np.ndarray, *, num_neighbors: int, columns: int) -> memory.Clusters:
    """The labels of a file; neighbours are taken per sample, as the files have them."""
    table = jnp.zeros((labels.max() + 1, columns))
    return memory.Clusters(
        labels=jnp.asarray(labels, jnp.int32),
        counts=jnp.asarray(np.bincount(labels), jnp.float32),
        neighbor_labels=table.astype(jnp.int32),
        neighbor_similarity=table,
        num_neighbors=jnp.asarray(num_neighbors, jnp.int32),
    )


def _terms(golden, clusters, bank, inputs, other) -> dict[str, jax.Array]:
    indexes = golden["indexes"]
    labels = clusters.labels[indexes]
    probabilities = losses.cluster_probabilities(
        inputs, bank.prototypes, clusters.counts, float(golden["temperature"])
    )
    draws = jnp.asarray(golden["bernoulli_draws"].T)
    neighbors = _neighbors(golden, indexes)
    return {
        "prototype": losses.prototype_loss(probabilities, labels),
        "neighbor": losses.neighbor_loss(probabilities, neighbors, draws, compat="released"),
        "cross_prototype": losses.negative_cosine(bank.prototypes[labels], other),
        "cross_instance": losses.negative_cosine(inputs, other),
    }


def _neighbors(golden: Golden, rows: np.ndarray) -> losses.Neighbors:
    columns = slice(1, int(golden["num_neighbors"]) + 1)  # Column 0 is the sample's own cluster.
    return losses.Neighbors(
        labels=jnp.asarray(golden["neighbor_labels"][rows, columns], jnp.int32),
        similarity=jnp.asarray(golden["neighbor_similarity"][rows, columns]),
        count=jnp.asarray(golden["num_neighbors"], jnp.int32),
    )


# ---- train_steps.npz: the model, its gradients, three optimiser steps (algorithm.md 2 to 7) ----

# Batch norms amplify rounding where a batch is small; PyTorch's float32 is as far from float64.
_GRADIENT = 5e-4
# Adam divides by the gradient's magnitude: where that is small, rounding decides the direction.
_AFTER_ADAM = 1e-3
_CHANGE = 5e-2
_PREFIXES = ("rgb", "mask", "fusion")
_STREAMS = {"rgb": "rgb", "mask": "silhouette", "fusion": "fusion"}
_LOSSES = (
    ("rgb_prototype", "rgb_neighbor"),
    ("silhouette_prototype", "silhouette_neighbor", "cross_prototype", "cross_instance"),
    ("fusion_prototype",),
)
_TOLERANCES = {
    **dict.fromkeys(("eval_rgb_features", "eval_mask_features"), _TOLERANCE),
    **{
        f"step0_{name}": _TOLERANCE
        for name in (
            *("rgb_feature", "rgb_projection", "mask_feature", "mask_projection"),
            "fusion_feature",
        )
    },
    "rgb_grad_*": _GRADIENT,
    "losses of the first step": _TOLERANCE,
    "losses": _AFTER_ADAM,
    **{
        name: tolerance
        for prefix in _PREFIXES
        for name, tolerance in (
            (f"{prefix}_final_*", _AFTER_ADAM),
            (f"{prefix}_final_* less {prefix}_* (norm)", _CHANGE),
        )
    },
    **{f"bank_{prefix}_final": _AFTER_ADAM for prefix in _PREFIXES},
}
# The batch norm behind this bias takes it out again: its gradient is nothing but rounding.
_ROUNDING_ONLY = "full_connect.bias"


def check_train_steps(
    golden: Golden, compute: Callable[[Golden], Arrays] | None = None
) -> Iterator[Check]:
    """Recomputes `train_steps.npz`, by `TrainSteps` unless another function is given."""

    def errors(actual, expected):
        return _errors(golden, actual, expected)

    direct = [name for name, of in _TOLERANCES.items() if of in (_TOLERANCE, _GRADIENT)]
    yield from golden.check_controlled(
        compute or TrainSteps(golden), _TOLERANCES, errors=errors, direct=direct
    )


class TrainSteps:
    """Runs the model on a file's images, and the file's training steps.

    Args:
        golden: The file, for the sizes of the model and the fields of the config.
    """

    def __init__(self, golden: Golden):
        config = golden.fields("sicl", _FIELDS)
        config.compat, config.model.dtype = "released", "float32"
        self._method = method = Sicl(config)
        self._evaluate = jax.jit(lambda weights, *given: _outputs(method.model(weights), *given))

        def step(state, *given):
            return method.step(state, lambda model, memory: method.objective(model, memory, *given))

        self._step = jax.jit(step)

    def __call__(self, golden: Golden) -> Arrays:
        """Returns features, gradients, losses, and weights and banks after the last step."""
        images = {
            stream: nhwc(golden[name])
            for stream, name in (("rgb", "images"), ("silhouette", "masks"))
        }
        weights = self._initial_weights(golden)
        results = dict(self._evaluate(weights, images, golden["batches"][0]))

        first = state = self._method.start(weights, _initial_memory(golden))
        sums = []
        for number, rows in enumerate(golden["batches"]):
            state, terms = self._step(state, *_batch(golden, number, rows, images))
            sums.append([sum(float(terms[name]) for name in names) for names in _LOSSES])
            if number == 0:
                results["rgb_grad_*"] = self._gradients(first, state)
        results["losses"] = np.array(sums)
        for prefix, names in _names(self._method.model(state.weights)).items():
            results[f"{prefix}_final_*"] = {
                name: array
                for name, array in torch_names.collect(names).items()
                if not name.endswith("_tracked")
            }
        for prefix, stream in _STREAMS.items():
            results[f"bank_{prefix}_final"] = np.asarray(state.memory.banks[stream].rows)
        return results

    def _initial_weights(self, golden: Golden) -> Weights:
        """The file's, through the loader of the authors' checkpoints."""
        model = self._method.abstract_model()
        for prefix, names in _names(model).items():
            others = (f"{prefix}_grad_", f"{prefix}_final_")
            torch_names.assign(names, golden.with_prefix(f"{prefix}_", but_not=others), golden.file)
        return Weights.of(model)

    def _gradients(self, before: TrainState, after: TrainState) -> dict[str, np.ndarray]:
        """The RGB encoder's; frozen weights have zeros in the file."""
        names = released_weights.names(first_gradients(self._method, before, after).rgb)
        found = zeros_of(names) | torch_names.collect(trained(names))
        return {name: array for name, array in found.items() if "running" not in name}


def _errors(golden: Golden, actual: Arrays, expected: Arrays) -> dict[str, float]:
    """Errors by quantity; apart, of the weights and of how far training moved them."""
    begun = {}
    for prefix in _PREFIXES:
        others = (f"{prefix}_final_", f"{prefix}_grad_")
        begun[f"{prefix}_final_* less {prefix}_* (norm)"] = {
            name: array
            for name, array in golden.with_prefix(f"{prefix}_", but_not=others).items()
            if "running" not in name and name != _ROUNDING_ONLY
        }
    errors = array_errors(actual, expected, begun=begun)
    for name in (f"{prefix}_final_*" for prefix in _PREFIXES):
        errors[name] = group_error(actual[name], expected[name], floor=1.0)
    return errors


_FIELDS = {
    "model.width": "width",
    "model.stage_sizes": "stage_sizes",
    "memory.temperature": "temperature",
    "memory.momentum": "momentum",
    "neighbors.num": "num_neighbors",
    "optimizer.learning_rate": "learning_rate",
    "optimizer.weight_decay": "weight_decay",
}


def _names(model: TwoStreamModel) -> dict[str, torch_names.Names]:
    return {
        "rgb": released_weights.names(model.rgb),
        "mask": released_weights.names(model.silhouette),
        "fusion": released_weights.head_names(model.fusion),
    }


def _outputs(model: TwoStreamModel, images, rows) -> dict[str, jax.Array]:
    """Features in evaluation mode, and all outputs of the first batch in training mode."""
    outputs = {
        "eval_rgb_features": model.rgb.embed(images["rgb"]),
        "eval_mask_features": model.silhouette.embed(images["silhouette"]),
    }
    rgb = model.rgb(images["rgb"][rows], train=True)
    mask = model.silhouette(images["silhouette"][rows], train=True)
    for name, encoding in (("rgb", rgb), ("mask", mask)):
        outputs[f"step0_{name}_feature"] = encoding.feature
        outputs[f"step0_{name}_projection"] = encoding.projection
    outputs["step0_fusion_feature"] = model.fuse(rgb.feature, mask.feature, train=True)
    return outputs


def _initial_memory(golden: Golden) -> SiclMemory:
    count = int(golden["num_neighbors"])
    clusters = _clusters(golden["labels"], num_neighbors=count, columns=count)
    # The fusion bank starts as a copy of the RGB bank.
    starts = {"rgb": "rgb", "silhouette": "mask", "fusion": "rgb"}
    banks = {
        stream: memory.regroup(jnp.asarray(golden[f"bank_{name}_initial"]), clusters)
        for stream, name in starts.items()
    }
    return SiclMemory(banks, clusters)


def _batch(golden: Golden, number: int, rows: np.ndarray, images):
    """What `Sicl.objective` takes: indexes, images, neighbours and draws of a batch."""
    draws = jnp.asarray(golden["bernoulli_draws"][number].transpose(0, 2, 1))
    return (
        jnp.asarray(rows, jnp.int32),
        {stream: array[rows] for stream, array in images.items()},
        _neighbors(golden, rows),
        dict(zip(("rgb", "silhouette"), draws, strict=True)),
    )


# ---- optimizer.npz: Adam with L2 in the gradient and the step decay (algorithm.md 7) -----------


def check_optimizer(golden: Golden) -> Iterator[Check]:
    """Recomputes the file; its decay counts steps where training counts epochs."""
    fields = {
        "optimizer.learning_rate": "learning_rate",
        "optimizer.weight_decay": "weight_decay",
        "schedule.every": "step_size",
        "schedule.gamma": "gamma",
    }
    optimizer = optimizers.of_config(golden.fields("sicl", fields))
    weights = jnp.asarray(golden["initial"])
    state = optimizer.init(weights)
    trajectory = []
    for step, gradient in enumerate(golden["gradients"]):
        clock = Clock.at(step, epoch=step)
        updates, state = optimizer.update(jnp.asarray(gradient), state, weights, clock=clock)
        weights = optax.apply_updates(weights, updates)
        trajectory.append(weights)
    yield golden.check("trajectory", np.stack(trajectory), 1e-5)


CHECKS = {
    "clustering": clustering.check,
    "memory": check_memory,
    "train_steps": check_train_steps,
    "optimizer": check_optimizer,
    "sampler": samplers.check,
    "evaluation": evaluation.check,
    "schp": schp.check,
}
