"""`train_steps.npz`: the model, its gradients, three optimiser steps (algorithm.md 2 to 7)."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sicl_jax import config as configs
from sicl_jax import memory
from sicl_jax.methods.base import TrainState, Weights
from sicl_jax.methods.sicl import losses
from sicl_jax.methods.sicl import weights as released_weights
from sicl_jax.methods.sicl.method import Sicl, SiclMemory
from sicl_jax.methods.sicl.model import TwoStreamModel
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.verify.checks import Check, Golden, group_error, relative_error
from sicl_jax.weights import torch_names

_TOLERANCE = 1e-4
# Batch norms amplify rounding where a batch is small; PyTorch's float32 is as far from float64.
_GRADIENT = 5e-4
# Adam divides by the gradient's magnitude: where that is small, rounding decides the direction.
_AFTER_ADAM = 1e-3
_CHANGE = 5e-2
_BETA1 = 0.9
# The batch norm behind this bias takes it out again: its gradient is nothing but rounding.
_ROUNDING_ONLY = "full_connect.bias"
_STREAMS = {"rgb": "rgb", "mask": "silhouette", "fusion": "fusion"}
_LOSSES = (
    ("rgb_prototype", "rgb_neighbor"),
    ("silhouette_prototype", "silhouette_neighbor", "cross_prototype", "cross_instance"),
    ("fusion_prototype",),
)


@dataclasses.dataclass(frozen=True)
class Recomputed:
    """What the file's inputs come to here, in PyTorch's names and layouts.

    Attributes:
        outputs: Features and projections by the names they have in the file.
        gradients: The RGB encoder's at the first step.
        losses: (steps, 3) of the three streams.
        finals: By prefix (`rgb`, `mask`, `fusion`), weights and statistics after the last step.
        banks: By prefix, the bank's rows after the last step.
    """

    outputs: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    losses: np.ndarray
    finals: dict[str, dict[str, np.ndarray]]
    banks: dict[str, np.ndarray]


def check(golden: Golden) -> Iterator[Check]:
    """Recomputes the file."""
    yield from compare(golden, recompute(golden))


def recompute(golden: Golden) -> Recomputed:
    """Runs the model on the file's images, and the file's training steps."""
    method = Sicl(_config(golden))
    images = {
        stream: jnp.asarray(golden[name].transpose(0, 2, 3, 1))
        for stream, name in (("rgb", "images"), ("silhouette", "masks"))
    }
    graph, weights = _load(golden, method.config)
    outputs = jax.jit(lambda weights: _outputs(golden, _merge(graph, weights), images))(weights)

    first = state = _initial_state(golden, method, weights)

    @jax.jit
    def step(state, *given):
        return method.step(state, lambda model, memory: method.objective(model, memory, *given))

    sums = []
    for number, rows in enumerate(golden["batches"]):
        state, terms = step(state, *_batch(golden, number, rows, images))
        sums.append([sum(float(terms[name]) for name in names) for names in _LOSSES])
        if number == 0:
            gradients = _first_gradients(first, state, method.config.optimizer.weight_decay)
    names = _names(_merge(graph, state.weights))
    return Recomputed(
        outputs=jax.tree.map(np.asarray, outputs),
        gradients=_collect_gradients(graph, weights, gradients),
        losses=np.array(sums),
        finals={prefix: torch_names.collect(variables) for prefix, variables in names.items()},
        banks={n: np.asarray(state.memory.banks[stream].rows) for n, stream in _STREAMS.items()},
    )


def compare(golden: Golden, ours: Recomputed) -> Iterator[Check]:
    """The verdicts."""
    for name, output in ours.outputs.items():
        yield golden.check(name, output, _TOLERANCE)
    error = group_error(ours.gradients, golden.with_prefix("rgb_grad_"), floor=1e-2)
    yield golden.verdict("rgb_grad_*", error, _GRADIENT)
    error = relative_error(ours.losses[0], golden["losses"][0])
    yield golden.verdict("losses of the first step", error, _TOLERANCE)
    yield golden.check("losses", ours.losses, _AFTER_ADAM)
    for prefix, arrays in ours.finals.items():
        yield from _compare_final(golden, prefix, arrays)
    for name, rows in ours.banks.items():
        yield golden.check(f"bank_{name}_final", rows, _AFTER_ADAM)


def _config(golden: Golden):
    config = configs.base("sicl")
    config.compat = "released"
    config.model.dtype = "float32"
    config.model.width = int(golden["width"])
    config.model.stage_sizes = tuple(int(size) for size in golden["stage_sizes"])
    config.memory.temperature = float(golden["temperature"])
    config.memory.momentum = float(golden["momentum"])
    config.neighbors.num = int(golden["num_neighbors"])
    config.optimizer.learning_rate = float(golden["learning_rate"])
    config.optimizer.weight_decay = float(golden["weight_decay"])
    return config


def _load(golden: Golden, config) -> tuple[nnx.GraphDef, Weights]:
    """The initial weights, through the loader of the authors' checkpoints."""
    shape = ResNetConfig("bottleneck", config.model.stage_sizes, config.model.width)
    model = nnx.eval_shape(lambda: TwoStreamModel(shape))
    for prefix, names in _names(model).items():
        others = (f"{prefix}_grad_", f"{prefix}_final_")
        torch_names.assign(names, golden.with_prefix(f"{prefix}_", but_not=others), golden.file)
    return nnx.graphdef(model), Weights.of(model)


def _names(model: TwoStreamModel) -> dict[str, torch_names.Names]:
    return {
        "rgb": released_weights.names(model.rgb),
        "mask": released_weights.names(model.silhouette),
        "fusion": released_weights.head_names(model.fusion),
    }


def _merge(graph: nnx.GraphDef, weights: Weights) -> TwoStreamModel:
    return nnx.merge(graph, weights.params, weights.frozen, weights.statistics, copy=True)


def _outputs(golden: Golden, model: TwoStreamModel, images) -> dict[str, jax.Array]:
    """Features in evaluation mode, and all outputs of the first batch in training mode."""
    outputs = {
        "eval_rgb_features": model.rgb.embed(images["rgb"]),
        "eval_mask_features": model.silhouette.embed(images["silhouette"]),
    }
    rows = golden["batches"][0]
    rgb = model.rgb(images["rgb"][rows], train=True)
    mask = model.silhouette(images["silhouette"][rows], train=True)
    for name, encoding in (("rgb", rgb), ("mask", mask)):
        outputs[f"step0_{name}_feature"] = encoding.feature
        outputs[f"step0_{name}_projection"] = encoding.projection
    outputs["step0_fusion_feature"] = model.fuse(rgb.feature, mask.feature, train=True)
    return outputs


def _compare_final(golden: Golden, prefix: str, ours: dict[str, np.ndarray]) -> Iterator[Check]:
    """Weights and statistics after training; and, apart, how far training moved the weights.

    Three steps move a weight by a thousandth, so the weights alone would agree without any.
    """
    theirs = golden.with_prefix(f"{prefix}_final_")
    theirs = {name: array for name, array in theirs.items() if not name.endswith("_tracked")}
    ours = {name: ours[name] for name in theirs}
    yield golden.verdict(f"{prefix}_final_*", group_error(ours, theirs, floor=1.0), _AFTER_ADAM)
    weights = [name for name in theirs if "running" not in name and name != _ROUNDING_ONLY]
    difference = _flat({name: ours[name] - theirs[name] for name in weights})
    change = _flat({name: theirs[name] - golden[f"{prefix}_{name}"] for name in weights})
    error = np.linalg.norm(difference) / (np.linalg.norm(change) or 1e-38)
    yield golden.verdict(f"{prefix}_final_* less {prefix}_* (norm)", error, _CHANGE)


def _flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays.values()])


def _initial_state(golden: Golden, method: Sicl, weights: Weights) -> TrainState:
    labels = golden["labels"]
    table = jnp.zeros((labels.max() + 1, int(golden["num_neighbors"])))
    clusters = memory.Clusters(
        labels=jnp.asarray(labels, jnp.int32),
        counts=jnp.asarray(np.bincount(labels), jnp.float32),
        neighbor_labels=table.astype(jnp.int32),
        neighbor_similarity=table,
        num_neighbors=jnp.asarray(golden["num_neighbors"], jnp.int32),
    )
    # The fusion bank starts as a copy of the RGB bank.
    starts = {"rgb": "rgb", "silhouette": "mask", "fusion": "rgb"}
    banks = {
        stream: memory.regroup(jnp.asarray(golden[f"bank_{name}_initial"]), clusters)
        for stream, name in starts.items()
    }
    return method.start(weights, SiclMemory(banks, clusters))


def _batch(golden: Golden, number: int, rows: np.ndarray, images):
    """What `Sicl.objective` takes: indexes, images, neighbours and draws of a batch."""
    columns = slice(1, int(golden["num_neighbors"]) + 1)  # Column 0 is the sample's own cluster.
    neighbors = losses.Neighbors(
        labels=jnp.asarray(golden["neighbor_labels"][rows, columns], jnp.int32),
        similarity=jnp.asarray(golden["neighbor_similarity"][rows, columns]),
        count=jnp.asarray(golden["num_neighbors"], jnp.int32),
    )
    draws = jnp.asarray(golden["bernoulli_draws"][number].transpose(0, 2, 1))
    return (
        jnp.asarray(rows, jnp.int32),
        {stream: array[rows] for stream, array in images.items()},
        neighbors,
        dict(zip(("rgb", "silhouette"), draws, strict=True)),
    )


def _first_gradients(before: TrainState, after: TrainState, weight_decay: float):
    """The gradients of the first step, from what Adam's mean took up of them and of the decay."""
    mean = after.optimizer[1].mu
    return jax.tree.map(
        lambda mean, weight: mean / (1 - _BETA1) - weight_decay * weight,
        mean,
        before.weights.params,
    )


def _collect_gradients(graph, weights: Weights, gradients) -> dict[str, np.ndarray]:
    """Gradients under the names of their weights; frozen weights have zeros."""
    model = _merge(graph, dataclasses.replace(weights, params=gradients))
    names = released_weights.names(model.rgb)
    return {
        name: array if isinstance(names[name], nnx.Param) else np.zeros_like(array)
        for name, array in torch_names.collect(names).items()
        if name in names
    }
