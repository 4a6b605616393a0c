"""CSSC's golden model: both modes, gradients, running statistics, a mining block alone."""

import ast
from collections.abc import Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sicl_jax.data import augment
from sicl_jax.methods.cssc import weights
from sicl_jax.methods.cssc.method import loss_terms
from sicl_jax.methods.cssc.model import HEADS, ContentSalientNet, Mining, MiningConfig
from sicl_jax.models.layers import l2_normalize
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.verify import Check, Golden
from sicl_jax.verify.files import Arrays
from sicl_jax.verify.schp import draw as drawn_weight
from sicl_jax.weights import torch_names

OUTPUT = 1e-4
# Batch norms amplify rounding where a batch is small; PyTorch's float32 is as far from float64.
GRADIENT = 5e-4


_OF_TRAINING = {
    **{f"train_{what}_{name}": OUTPUT for name in HEADS for what in ("feature", "logits")},
    **dict.fromkeys(("identity_losses", "triplet_losses"), OUTPUT),
    **dict.fromkeys(("loss_before_triplet", "loss"), OUTPUT),
    "grad_*": GRADIENT,
    **dict.fromkeys(("gradient_statistics_before_triplet", "gradient_statistics"), GRADIENT),
    **dict.fromkeys(("after_*", "running_statistics"), OUTPUT),
}


def check_model(golden: Golden) -> Iterator[Check]:
    """Both modes, the gradients of the loss, running statistics, and a mining block alone."""
    yield from _check_evaluation_mode(golden)
    yield from golden.check_controlled(TrainingMode(golden), _OF_TRAINING, direct=_OF_TRAINING)
    for pool in ("avg", "max"):
        yield from _check_mining(golden, pool)


def model_of(golden: Golden) -> ContentSalientNet:
    """The network of a file's sizes, with the weights that its names stand for."""
    shape = ResNetConfig("bottleneck", golden["stage_sizes"].tolist(), int(golden["width"]))
    model = nnx.eval_shape(
        lambda: ContentSalientNet(shape, int(golden["num_classes"]), mining=mining_of(golden))
    )
    torch_names.assign(weights.names(model), drawn_weights(golden), golden.file)
    return model


def mining_of(golden: Golden) -> MiningConfig:
    """The sizes of a file's mining blocks."""
    return MiningConfig(*(int(golden[name]) for name in ("part_num", "part_dim", "reduction")))


def drawn_weights(
    golden: Golden, kind: str = "parameter", prefix: str = ""
) -> dict[str, np.ndarray]:
    """Weights by name, each drawn from a generator seeded by it, in the order of the file."""
    names = [f"{prefix}{name}" for name in golden[f"{kind}_names"]]
    shapes = [ast.literal_eval(str(shape)) for shape in golden[f"{kind}_shapes"]]
    return {
        name: golden.as_input(name, drawn_weight(name, shape))
        for name, shape in zip(names, shapes, strict=True)
    }


def _images(golden: Golden) -> jax.Array:
    return augment.normalize(jnp.asarray(golden["images"].transpose(0, 2, 3, 1)))


def _check_evaluation_mode(golden: Golden) -> Iterator[Check]:
    graph, state = nnx.split(model_of(golden))

    @jax.jit
    def evaluate(state, images):
        model = nnx.merge(graph, state)
        trunk = jnp.mean(model.trunk(images, train=False), axis=(1, 2))
        feature, mirrored = model.embed(images), model.embed(images[:, :, ::-1])
        return trunk, feature, l2_normalize(feature + mirrored)

    trunk, feature, embedding = evaluate(state, _images(golden))
    yield golden.check("eval_stage3_mean", trunk, OUTPUT)
    yield golden.check("eval_feature", feature, OUTPUT)
    yield golden.check("embedding", embedding, OUTPUT)


class TrainingMode:
    """One pass in training mode, with and without the triplet loss, and its gradients.

    Args:
        golden: The file, for the sizes of the network.
    """

    def __init__(self, golden: Golden):
        self._graph = nnx.graphdef(model_of(golden))

        @jax.jit
        def gradient(params, rest, images, labels, triplet):
            def objective(params):
                model = nnx.merge(self._graph, params, rest, copy=True)
                heads = model(images)
                identity, triplets = loss_terms(heads, labels, smoothing=0.1, margin=0.3)
                loss = jnp.sum(identity) + triplet * jnp.sum(triplets)
                return loss, (heads, identity, triplets, nnx.state(model, nnx.BatchStat))

            return jax.value_and_grad(objective, has_aux=True)(params)

        self._gradient = gradient

    def __call__(self, golden: Golden) -> Arrays:
        """Outputs, losses, gradients, and running statistics after the pass."""
        model = model_of(golden)
        _, params, rest = nnx.split(model, nnx.Param, ...)
        inputs = params, rest, _images(golden), jnp.asarray(golden["labels"])
        (early_loss, _), early = self._gradient(*inputs, 0.0)
        (loss, (heads, identity, triplet, statistics)), late = self._gradient(*inputs, 1.0)
        early, late = (_gradients(nnx.merge(self._graph, g, rest)) for g in (early, late))
        nnx.update(model, statistics)
        after = torch_names.collect(weights.names(model))
        return {
            **{f"train_feature_{name}": head.feature for name, head in heads.items()},
            **{f"train_logits_{name}": head.logits for name, head in heads.items()},
            "identity_losses": identity,
            "triplet_losses": triplet,
            "loss_before_triplet": early_loss,
            "loss": loss,
            "grad_*": {name: late[name] for name in golden.with_prefix("grad_")},
            "gradient_statistics_before_triplet": all_statistics(early, golden["gradient_names"]),
            "gradient_statistics": all_statistics(late, golden["gradient_names"]),
            "after_*": {name: after[name] for name in golden.with_prefix("after_")},
            "running_statistics": all_statistics(after, golden["statistics_names"]),
        }


def _gradients(model: ContentSalientNet) -> dict[str, np.ndarray]:
    """A model that holds gradients, by the authors' names; frozen biases have zeros."""
    names = weights.names(model)
    arrays = torch_names.collect(names)
    return {
        name: arrays[name] if isinstance(variable, nnx.Param) else np.zeros_like(arrays[name])
        for name, variable in names.items()
    }


def all_statistics(arrays: Mapping[str, np.ndarray], names: Iterable[str]) -> np.ndarray:
    """(N, 3) mean, deviation and norm of the arrays of these names."""
    wide = (np.asarray(arrays[str(name)], np.float64) for name in names)
    return np.stack([(array.mean(), array.std(), np.linalg.norm(array)) for array in wide])


def _check_mining(golden: Golden, pool: str) -> Iterator[Check]:
    """One block alone in training mode, and the gradient that its three outputs give its input."""
    prefix = f"smr_{pool}"
    features = golden.expected(f"{prefix}_input").shape[1]
    classes = golden.expected(f"{prefix}_logits").shape[1]
    block = nnx.eval_shape(
        lambda: Mining(features, classes, mining_of(golden), salient=pool == "max")
    )
    graph = nnx.graphdef(block)

    @jax.jit
    def gradient(x, state, factors):
        def weighted(x):
            refined, head = nnx.merge(graph, state, copy=True)(x, train=True)
            outputs = {"refined": refined, "feature": head.feature, "logits": head.logits}
            return sum(jnp.sum(outputs[name] * factors[name]) for name in outputs), outputs

        return jax.grad(weighted, has_aux=True)(x)

    def compute(golden: Golden) -> Arrays:
        drawn = drawn_weights(golden, "smr", f"{prefix}.")
        torch_names.assign(weights.mining_names(prefix, block), drawn, golden.file)
        factors = {name: golden[f"{prefix}_weight_{name}"] for name in ("feature", "logits")}
        factors["refined"] = golden[f"{prefix}_weight_refined"].transpose(0, 2, 3, 1)
        x = golden[f"{prefix}_input"].transpose(0, 2, 3, 1)
        of_input, outputs = gradient(x, nnx.state(block), factors)
        outputs = outputs | {"grad_input": of_input}
        for name in ("refined", "grad_input"):
            outputs[name] = outputs[name].transpose(0, 3, 1, 2)
        return {f"{prefix}_{name}": output for name, output in outputs.items()}

    of_outputs = [f"{prefix}_{name}" for name in ("refined", "feature", "logits")]
    tolerances = dict.fromkeys(of_outputs, OUTPUT) | {f"{prefix}_grad_input": GRADIENT}
    yield from golden.check_controlled(compute, tolerances, direct=tolerances)
