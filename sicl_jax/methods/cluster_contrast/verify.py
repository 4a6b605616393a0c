"""Checks of the golden files of Cluster Contrast's published code (`sicl_jax.verify`)."""

import ast
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sicl_jax.data.augment import normalize
from sicl_jax.losses import cluster_contrast
from sicl_jax.memory import update_cluster_memory
from sicl_jax.models.encoder import Encoder
from sicl_jax.models.layers import Frozen, l2_normalize
from sicl_jax.models.resnet import GeneralizedMean, ResNetConfig
from sicl_jax.verify.checks import Check, group_error
from sicl_jax.verify.files import Golden
from sicl_jax.verify.schp import draw
from sicl_jax.weights import torch_names

_MODEL, _GRADIENT = 1e-4, 1e-3
_MEMORY, _MEMORY_GRADIENT = 1e-6, 1e-5
# Arrays smaller than this share of the largest are measured as if they were as large as that.
_FLOOR = 1e-2
_FROZEN = "feat_bn.bias"


def check_model(golden: Golden) -> Iterator[Check]:
    """`model.npz`: the encoder with both poolings, and with batch norms in parts."""
    yield from _check_pooling(golden)
    images = normalize(jnp.asarray(golden["images"].transpose(0, 2, 3, 1)))
    arrays = published_arrays(golden)
    for case in ("gem", "avg", "split"):
        encoder = encoder_of(golden, case, arrays)
        if case != "split":
            pooled, feature = jax.jit(_evaluate)(encoder, images)
            yield golden.check(f"{case}_eval_pooled", pooled, _MODEL)
            yield golden.check(f"{case}_eval_feature", feature, _MODEL)
        yield from _check_training(golden, case, encoder, images)


def check_memory(golden: Golden) -> Iterator[Check]:
    """`memory.npz`: loss, gradient and update of two steps, by all samples and by the hardest."""
    temperature = float(golden["temperature"])
    steps = [(golden[f"{at}inputs"], golden[f"{at}labels"]) for at in ("", "second_")]
    counts = np.ones(len(golden["bank"]))

    @jax.jit
    def step(rows, inputs, labels, momentum, hard):
        def loss(inputs):
            return cluster_contrast(l2_normalize(inputs), rows, counts, labels, temperature)

        features = l2_normalize(inputs)
        after = [
            update_cluster_memory(rows, labels, features, momentum, hard=h) for h in (False, True)
        ]
        return *jax.value_and_grad(loss)(inputs), jnp.where(hard, after[1], after[0])

    for case in ("mean", "mean_other", "hard", "hard_other"):
        rows = golden["bank"]
        momentum = golden[f"{case}_momentum"]
        for number, (inputs, labels) in enumerate(steps):
            loss, gradient, rows = step(rows, inputs, labels, momentum, case.startswith("hard"))
            yield golden.check(f"{case}_loss{number}", loss, _MEMORY)
            yield golden.check(f"{case}_grad{number}", gradient, _MEMORY_GRADIENT)
            yield golden.check(f"{case}_bank{number}", rows, _MEMORY)


CHECKS = {"model": check_model, "memory": check_memory}


def published_arrays(golden: Golden) -> dict[str, np.ndarray]:
    """The initial weights of a file, by the published names and in PyTorch's layouts.

    Running statistics lie in one row; the rest is drawn by name.
    """
    arrays, place = {}, 0
    row = golden["initial_running"]
    shapes = zip(golden["parameter_names"], golden["parameter_shapes"], strict=True)
    for name, shape in ((str(name), ast.literal_eval(str(shape))) for name, shape in shapes):
        if "running" in name:
            arrays[name] = row[place : place + shape[0]]
            place += shape[0]
        elif name == "gap.p":
            arrays[name] = np.full(shape, golden["initial_p"], row.dtype)
        else:
            arrays[name] = draw(name, shape).astype(row.dtype)
    return arrays


def encoder_of(golden: Golden, case: str, arrays: Mapping[str, np.ndarray]) -> Encoder:
    """The encoder of a file, filled; `case` is `'gem'`, `'avg'` or `'split'`."""
    shape = ResNetConfig(
        block="bottleneck",
        stage_sizes=tuple(map(int, golden["stage_sizes"])),
        width=int(golden["width"]),
        batch_norm_parts=int(golden["replicas"]) if case == "split" else 1,
    )
    pooling = "average" if case == "avg" else "gem"
    encoder = nnx.eval_shape(lambda: Encoder(shape, pooling=pooling))
    names = torch_names.encoder(encoder)
    torch_names.assign(names, {name: arrays[name] for name in names}, golden.file)
    return encoder


def _evaluate(encoder: Encoder, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    pooled = encoder.pool(images, train=False)
    return pooled, encoder.feature(pooled, train=False)


def _check_training(
    golden: Golden, case: str, encoder: Encoder, images: jax.Array
) -> Iterator[Check]:
    """One pass in training mode: feature, loss, gradients, statistics and the memory after it."""
    rows, labels = golden["bank"], golden["labels"]
    graph, params, rest = nnx.split(encoder, nnx.Param, (Frozen, nnx.BatchStat))

    def loss(params, rest):
        model = nnx.merge(graph, params, rest, copy=True)
        feature = model.feature(model.pool(images, train=True), train=True)
        value = cluster_contrast(
            feature, rows, np.ones(len(rows)), labels, float(golden["temperature"])
        )
        return value, (feature, nnx.state(model, (Frozen, nnx.BatchStat)))

    value_and_gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, (feature, rest)), gradients = value_and_gradients(params, rest)
    yield golden.check(f"{case}_train_feature", feature, _MODEL)
    yield golden.check(f"{case}_loss", value, _MODEL)
    after = update_cluster_memory(jnp.asarray(rows), labels, feature, float(golden["momentum"]))
    yield golden.check(f"{case}_bank_after", after, _MODEL)

    statistics = torch_names.collect(torch_names.encoder(nnx.merge(graph, params, rest)))
    theirs = golden.with_prefix(f"{case}_after_")
    error = group_error(statistics, theirs, floor=_FLOOR)
    yield golden.verdict(f"{case}_after_*", error, _MODEL)

    ours = torch_names.collect(torch_names.encoder(nnx.merge(graph, gradients, rest)))
    theirs = golden.with_prefix(f"{case}_grad_")
    # feat_bn's frozen bias has a gradient in the file, though no optimiser takes it.
    theirs.pop(_FROZEN)
    yield golden.verdict(f"{case}_grad_*", group_error(ours, theirs, floor=_FLOOR), _GRADIENT)
    theirs = dict(
        zip(golden[f"{case}_gradient_names"], golden[f"{case}_gradient_statistics"], strict=True)
    )
    theirs.pop(_FROZEN)
    error = group_error({name: summary(ours[name]) for name in theirs}, theirs, floor=_FLOOR)
    yield golden.verdict(f"{case}_gradient_statistics", error, _GRADIENT)


def _check_pooling(golden: Golden) -> Iterator[Check]:
    """GeM alone; some of the maps lie below its floor, where no gradient passes."""
    maps = jnp.asarray(golden["pool_input"].transpose(0, 2, 3, 1))
    graph, state = nnx.split(GeneralizedMean(float(golden["initial_p"])))

    def weighted(maps, state):
        pooled = nnx.merge(graph, state)(maps)
        return jnp.sum(pooled * golden["pool_weight"]), pooled

    gradients, pooled = jax.jit(jax.grad(weighted, (0, 1), has_aux=True))(maps, state)
    yield golden.check("pool_output", pooled, _MODEL)
    yield golden.check("pool_grad_input", gradients[0].transpose(0, 3, 1, 2), _GRADIENT)
    yield golden.check("pool_grad_p", jax.tree.leaves(gradients[1])[0], _GRADIENT)


def summary(array: np.ndarray) -> np.ndarray:
    """Mean, population deviation and norm: what the files keep of arrays they do not hold."""
    return np.array([np.mean(array), np.std(array), np.linalg.norm(array)])
