"""`train_steps.npz`: the model, its gradients, three optimiser steps (algorithm.md 2 to 7)."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sicl_jax import memory
from sicl_jax.configs import base
from sicl_jax.methods.sicl import Sicl, SiclState, Weights, make_optimizer
from sicl_jax.models import released_weights, torch_names
from sicl_jax.models.batch_norm import Frozen
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.models.two_stream import TwoStreamModel
from sicl_jax.verify.checks import Check, Golden, group_error, relative_error

_TOLERANCE = 1e-4
# Adam divides by the gradient's magnitude and so amplifies rounding: where a gradient is nothing
# but rounding, the weight takes a whole step in a direction of its own.
_AFTER_ADAM = 1e-3
_CHANGE = 5e-2
_BETA1 = 0.9
_STREAMS = {"rgb": "rgb", "mask": "silhouette", "fusion": "fusion"}
_LOSSES = (
    ("rgb_prototype", "rgb_neighbor"),
    ("silhouette_prototype", "silhouette_neighbor", "cross_prototype", "cross_instance"),
    ("fusion_prototype",),
)


def check(golden: Golden) -> Iterator[Check]:
    """Recomputes the file."""
    method = Sicl(_config(golden))
    images = {
        stream: jnp.asarray(golden[name].transpose(0, 2, 3, 1))
        for stream, name in (("rgb", "images"), ("silhouette", "masks"))
    }
    graph, weights = _load(golden, method.config)
    yield from _check_features(golden, graph, weights, images)
    yield from _check_steps(golden, method, graph, weights, images)


def _config(golden: Golden):
    config = base.get_config()
    config.compat = "released"
    config.model.dtype = "float32"
    config.model.width = int(golden["width"])
    config.model.stage_sizes = tuple(int(size) for size in golden["stage_sizes"])
    config.memory.temperature = float(golden["temperature"])
    config.memory.momentum = float(golden["momentum"])
    config.neighbors.num = int(golden["num_neighbors"])
    config.learning_rate = float(golden["learning_rate"])
    config.weight_decay = float(golden["weight_decay"])
    return config


def _load(golden: Golden, config) -> tuple[nnx.GraphDef, Weights]:
    """The initial weights, through the loader of the authors' checkpoints."""
    shape = ResNetConfig("bottleneck", config.model.stage_sizes, config.model.width)
    model = nnx.eval_shape(lambda: TwoStreamModel(shape, rngs=nnx.Rngs(0)))
    for prefix, names in _names(model).items():
        others = (f"{prefix}_grad_", f"{prefix}_final_")
        torch_names.assign(names, golden.with_prefix(f"{prefix}_", but_not=others), golden.file)
    graph, *parts = nnx.split(model, nnx.Param, Frozen, nnx.BatchStat)
    return graph, Weights(*parts)


def _names(model: TwoStreamModel) -> dict[str, torch_names.Names]:
    return {
        "rgb": released_weights.names(model.rgb),
        "mask": released_weights.names(model.silhouette),
        "fusion": released_weights.head_names(model.fusion),
    }


def _merge(graph: nnx.GraphDef, weights: Weights) -> TwoStreamModel:
    return nnx.merge(graph, weights.params, weights.frozen, weights.statistics, copy=True)


def _check_features(golden: Golden, graph, weights, images) -> Iterator[Check]:
    """Outputs in evaluation mode, and of the first batch in training mode."""

    @jax.jit
    def evaluate(weights):
        model = _merge(graph, weights)
        return model.rgb.embed(images["rgb"]), model.silhouette.embed(images["silhouette"])

    @jax.jit
    def train(weights):
        model, rows = _merge(graph, weights), golden["batches"][0]
        rgb = model.rgb(images["rgb"][rows], train=True)
        silhouette = model.silhouette(images["silhouette"][rows], train=True)
        return rgb, silhouette, model.fuse(rgb.feature, silhouette.feature, train=True)

    for name, features in zip(("rgb", "mask"), evaluate(weights), strict=True):
        yield golden.check(f"eval_{name}_features", features, _TOLERANCE)
    *encodings, fused = train(weights)
    for name, encoding in zip(("rgb", "mask"), encodings, strict=True):
        yield golden.check(f"step0_{name}_feature", encoding.feature, _TOLERANCE)
        yield golden.check(f"step0_{name}_projection", encoding.projection, _TOLERANCE)
    yield golden.check("step0_fusion_feature", fused, _TOLERANCE)


def _check_steps(golden: Golden, method: Sicl, graph, weights, images) -> Iterator[Check]:
    first = state = _initial_state(golden, method, weights)
    step = jax.jit(lambda *arguments: _step(method, *arguments))
    losses = []
    for number, rows in enumerate(golden["batches"]):
        state, terms = step(state, *_batch(golden, number, rows, images))
        losses.append([sum(float(terms[name]) for name in names) for names in _LOSSES])
        if number == 0:
            gradients = _first_gradients(first, state, method.config.weight_decay)
            yield _check_gradients(golden, graph, weights, gradients)
    expected = golden["losses"]
    error = relative_error(losses[0], expected[0])
    yield golden.verdict("losses of the first step", error, _TOLERANCE)
    yield golden.check("losses", np.array(losses), _AFTER_ADAM)
    for prefix, names in _names(_merge(graph, state.weights)).items():
        yield from _check_final(golden, prefix, torch_names.collect(names))
    for name, stream in _STREAMS.items():
        yield golden.check(f"bank_{name}_final", state.banks[stream].rows, _AFTER_ADAM)


def _check_final(golden: Golden, prefix: str, ours: dict[str, np.ndarray]) -> Iterator[Check]:
    """Weights and statistics after training; and, apart, how far training moved the weights.

    Three steps move a weight by a thousandth, so the weights alone would agree without any.
    """
    theirs = golden.with_prefix(f"{prefix}_final_")
    theirs = {name: array for name, array in theirs.items() if not name.endswith("_tracked")}
    ours = {name: ours[name] for name in theirs}
    yield golden.verdict(f"{prefix}_final_*", group_error(ours, theirs, floor=1.0), _AFTER_ADAM)
    weights = [name for name in theirs if "running" not in name]
    difference = _flat({name: ours[name] - theirs[name] for name in weights})
    change = _flat({name: theirs[name] - golden[f"{prefix}_{name}"] for name in weights})
    error = np.linalg.norm(difference) / np.linalg.norm(change)
    yield golden.verdict(f"{prefix}_final_* less {prefix}_* (norm)", error, _CHANGE)


def _flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays.values()])


def _initial_state(golden: Golden, method: Sicl, weights: Weights) -> SiclState:
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
    optimizer = make_optimizer(method.config.weight_decay).init(weights.params)
    zero = jnp.zeros((), jnp.int32)
    return SiclState(weights, optimizer, banks, clusters, epoch=zero, step=zero)


@dataclasses.dataclass(frozen=True)
class _OfBatch:
    """Stands for a table of clusters' neighbours: the file lists those of each sample instead."""

    rows: jax.Array

    def __getitem__(self, labels):
        return self.rows


def _batch(golden: Golden, number: int, rows: np.ndarray, images):
    """Indexes, images, draws, neighbours' labels and similarities of a batch."""
    columns = slice(1, int(golden["num_neighbors"]) + 1)  # Column 0 is the sample's own cluster.
    draws = jnp.asarray(golden["bernoulli_draws"][number].transpose(0, 2, 1))
    return (
        jnp.asarray(rows, jnp.int32),
        {stream: array[rows] for stream, array in images.items()},
        dict(zip(("rgb", "silhouette"), draws, strict=True)),
        jnp.asarray(golden["neighbor_labels"][rows, columns], jnp.int32),
        jnp.asarray(golden["neighbor_similarity"][rows, columns]),
    )


def _with_neighbors(state: SiclState, labels, similarity) -> SiclState:
    clusters = dataclasses.replace(
        state.clusters, neighbor_labels=_OfBatch(labels), neighbor_similarity=_OfBatch(similarity)
    )
    return dataclasses.replace(state, clusters=clusters)


def _step(method: Sicl, state: SiclState, indexes, images, draws, labels, similarity):
    after, terms = method.optimizer_step(
        _with_neighbors(state, labels, similarity), indexes, images, draws
    )
    return dataclasses.replace(after, clusters=state.clusters), terms


def _first_gradients(before: SiclState, after: SiclState, weight_decay: float):
    """The gradients of the first step, from what Adam's mean took up of them and of the decay."""
    mean = after.optimizer[1].mu
    return jax.tree.map(
        lambda mean, weight: mean / (1 - _BETA1) - weight_decay * weight,
        mean,
        before.weights.params,
    )


def _check_gradients(golden: Golden, graph, weights: Weights, gradients) -> Check:
    """The RGB encoder's gradients, under the names of its weights; frozen ones have zeros."""
    model = _merge(graph, dataclasses.replace(weights, params=gradients))
    names = released_weights.names(model.rgb)
    ours = torch_names.collect(names)
    theirs = golden.with_prefix("rgb_grad_")
    ours = {
        name: ours[name] if isinstance(names[name], nnx.Param) else np.zeros_like(array)
        for name, array in theirs.items()
    }
    return golden.verdict("rgb_grad_*", group_error(ours, theirs, floor=1e-2), _TOLERANCE)
