"""CSSC's golden files, recomputed; `docs/methods/cssc.md` describes what is in them."""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sicl_jax import optimizers
from sicl_jax.data import augment
from sicl_jax.evaluation import rules
from sicl_jax.losses import cross_entropy, hard_triplet, pairwise_distances
from sicl_jax.methods.cssc import weights
from sicl_jax.methods.cssc.method import Cssc, loss_terms
from sicl_jax.methods.cssc.model import HEADS, ContentSalientNet, Mining, MiningConfig
from sicl_jax.methods.embedder import Embedder
from sicl_jax.methods.state import Clock, TrainState
from sicl_jax.models.layers import l2_normalize
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.verify import Check, Golden, augmentation, evaluation
from sicl_jax.verify.checks import Arrays, array_errors, group_error, statistics
from sicl_jax.verify.networks import Pass, begun, nhwc, zeros_of
from sicl_jax.verify.samplers import check_identities
from sicl_jax.verify.schp import draw
from sicl_jax.weights import torch_names

# ---- model.npz ------------------------------------------------------------------------------

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
    torch_names.assign(weights.names(model), golden.drawn(draw), golden.file)
    return model


def mining_of(golden: Golden) -> MiningConfig:
    """The sizes of a file's mining blocks."""
    return MiningConfig(*(int(golden[name]) for name in ("part_num", "part_dim", "reduction")))


def _images(golden: Golden) -> jax.Array:
    return augment.normalize(nhwc(golden["images"]))


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
        def objective(model, images, labels, factor):
            heads = model(images)
            identity, triplets = loss_terms(heads, labels, smoothing=0.1, margin=0.3)
            return jnp.sum(identity) + factor * jnp.sum(triplets), (heads, identity, triplets)

        self._pass = Pass(model_of(golden), weights.names, objective)

    def __call__(self, golden: Golden) -> Arrays:
        """Outputs, losses, gradients, and running statistics after the pass."""
        model = model_of(golden)
        inputs = _images(golden), jnp.asarray(golden["labels"])
        early, late = (
            self._pass(model, *inputs, factor, flips=golden.flips) for factor in (0.0, 1.0)
        )
        heads, identity, triplet = late.outputs
        frozen, listed = zeros_of(weights.names(model)), golden["gradient_names"]
        gradients = frozen | late.gradients
        return {
            **{f"train_feature_{name}": head.feature for name, head in heads.items()},
            **{f"train_logits_{name}": head.logits for name, head in heads.items()},
            "identity_losses": identity,
            "triplet_losses": triplet,
            "loss_before_triplet": early.value,
            "loss": late.value,
            "grad_*": {name: gradients[name] for name in golden.with_prefix("grad_")},
            "gradient_statistics_before_triplet": statistics(frozen | early.gradients, listed),
            "gradient_statistics": statistics(gradients, listed),
            "after_*": {name: late.after[name] for name in golden.with_prefix("after_")},
            "running_statistics": statistics(late.after, golden["statistics_names"]),
        }


def _check_mining(golden: Golden, pool: str) -> Iterator[Check]:
    """One block alone in training mode, and the gradient that its three outputs give its input."""
    prefix = f"smr_{pool}"
    features = golden.expected(f"{prefix}_input").shape[1]
    classes = golden.expected(f"{prefix}_logits").shape[1]
    block = nnx.eval_shape(
        lambda: Mining(features, classes, mining_of(golden), salient=pool == "max")
    )

    def names(block):
        return weights.mining_names(prefix, block)

    def weighted(block, x, factors):
        refined, head = block(x, train=True)
        outputs = {"refined": refined, "feature": head.feature, "logits": head.logits}
        return sum(jnp.sum(outputs[name] * factors[name]) for name in outputs), outputs

    run = Pass(block, names, weighted, argnums=[1])

    def compute(golden: Golden) -> Arrays:
        torch_names.assign(
            names(block), golden.drawn(draw, "smr", prefix=f"{prefix}."), golden.file
        )
        factors = {name: golden[f"{prefix}_weight_{name}"] for name in ("feature", "logits")}
        factors["refined"] = golden[f"{prefix}_weight_refined"].transpose(0, 2, 3, 1)
        maps = golden[f"{prefix}_input"].transpose(0, 2, 3, 1)
        found = run(block, maps, factors, flips=golden.flips)
        outputs = found.outputs | {"grad_input": found.of_input}
        for name in ("refined", "grad_input"):
            outputs[name] = outputs[name].transpose(0, 3, 1, 2)
        return {f"{prefix}_{name}": output for name, output in outputs.items()}

    of_outputs = [f"{prefix}_{name}" for name in ("refined", "feature", "logits")]
    tolerances = dict.fromkeys(of_outputs, OUTPUT) | {f"{prefix}_grad_input": GRADIENT}
    yield from golden.check_controlled(compute, tolerances, direct=tolerances)


# ---- train_steps.npz ------------------------------------------------------------------------

# Adam divides by the gradient's magnitude: where that is small, rounding decides the direction.
_AFTER_ADAM = 1e-3
_CHANGE = 5e-2
_FIELDS = {
    "data.image_size": "image_size",
    "model.width": "width",
    "model.stage_sizes": "stage_sizes",
    "mining.parts": "part_num",
    "mining.part_features": "part_dim",
    "mining.reduction": "reduction",
    "loss.smoothing": "epsilon",
    "loss.margin": "margin",
    "loss.triplet_after": "triplet_start_epoch",
    "optimizer.learning_rate": "learning_rate",
    "optimizer.weight_decay": "weight_decay",
    "schedule.warmup_factor": "warmup_factor",
    "schedule.warmup_epochs": "warmup_epochs",
}
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
    drawn = {n: array for n, array in golden.drawn(draw).items() if "running" not in n}

    def errors(actual: Arrays, expected: Arrays) -> dict[str, float]:
        found = array_errors(actual, expected, begun={"final_* less the drawn (norm)": drawn})
        return found | {"final_*": group_error(actual["final_*"], expected["final_*"], floor=1.0)}

    direct = [name for name, of in _TOLERANCES.items() if of not in (_AFTER_ADAM, _CHANGE)]
    yield from golden.check_controlled(
        TrainSteps(golden), _TOLERANCES, errors=errors, direct=direct
    )


class TrainSteps:
    """Runs a file's training steps.

    Args:
        golden: The file, for the fields of the config.
    """

    def __init__(self, golden: Golden):
        config = golden.fields("cssc", _FIELDS)
        config.model.dtype = "float32"
        self._method = method = Cssc(config, {"classes": int(golden["num_classes"])})
        self._final = [name for name in golden.with_prefix("final_") if name not in _FINAL]
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
        drawn = golden.drawn(draw)
        state = begun(self._method, drawn, golden)
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
        return torch_names.collect(weights.names(self._method.model(state.weights)))


def _moved(prefix: str, drawn, arrays) -> dict[str, np.ndarray]:
    """Statistics of all arrays, and of what they are less the drawn ones."""
    changes = {name: np.float64(arrays[name]) - array for name, array in drawn.items()}
    return {
        f"{prefix}_statistics": statistics(arrays, drawn),
        f"{prefix}_change_statistics": statistics(changes, drawn),
    }


# ---- the rest -------------------------------------------------------------------------------


def check_losses(golden: Golden) -> Iterator[Check]:
    """Both losses and their gradients; the distances and the hardest of each sample."""
    labels = jnp.asarray(golden["labels"])
    epsilon, margin = float(golden["epsilon"]), float(golden["margin"])

    def identity(logits):
        return cross_entropy(logits, labels, epsilon)

    value, gradient = jax.jit(jax.value_and_grad(identity))(jnp.asarray(golden["logits"]))
    yield golden.check("identity_loss", value, 1e-6)
    yield golden.check("grad_logits", gradient, 1e-5)

    def triplet(features):
        return hard_triplet(features, labels, margin)

    same = golden["labels"][:, None] == golden["labels"]
    for name in ("plain", "exact"):
        features = jnp.asarray(golden[f"{name}_features"])
        value, gradient = jax.jit(jax.value_and_grad(triplet))(features)
        yield golden.check(f"{name}_triplet_loss", value, 1e-6)
        yield golden.check(f"{name}_grad_features", gradient, 1e-5)
        distances = np.asarray(jax.jit(pairwise_distances)(features))
        positive = np.where(same, distances, -np.inf).max(axis=1)
        negative = np.where(same, np.inf, distances).min(axis=1)
        yield golden.check(f"{name}_hardest_positive", positive, 1e-6)
        yield golden.check(f"{name}_hardest_negative", negative, 1e-6)
        if name == "plain":
            off_diagonal = np.where(np.eye(len(distances), dtype=bool), 0.0, distances)
            yield golden.check("plain_distance_off_diagonal", off_diagonal, 1e-6)


def check_sampler(golden: Golden) -> Iterator[Check]:
    """Our epochs obey the rules that the published ones do, and are as long on average."""
    size, lengths = int(golden["batch_size"]), golden["batches_of_200_epochs"]
    ours = yield from check_identities(
        golden,
        "epoch*",
        [golden[f"epoch{i}"].reshape(-1, size) for i in range(len(golden["seeds"]))],
        golden["labels"],
        num_instances=int(golden["num_instances"]),
        epochs=len(lengths),
    )
    counts = np.array([len(epoch) for epoch in ours])
    deviation = np.sqrt((counts.var() + lengths.var()) / len(lengths)) or 1.0
    apart = abs(counts.mean() - lengths.mean()) / deviation
    yield golden.verdict("batches_of_200_epochs: mean, in deviations", apart, 4.0)


def check_evaluation(golden: Golden) -> Iterator[Check]:
    """Distances, and each protocol's curve and mean average precision."""
    labels = {"identity": "identities", "camera": "cameras", "clothes": "clothes"}
    query, gallery = (
        dataclasses.replace(side, features=np.asarray(l2_normalize(side.features)))
        for side in evaluation.sides(golden, labels)
    )
    yield from evaluation.check_protocols(golden, query, gallery, _RULES)


def check_schedule(golden: Golden) -> Iterator[Check]:
    """Learning rates by epoch, for a run that goes on after a stop too, and for other settings."""
    rates = _rates(golden, "")
    yield golden.check("rates", rates, 1e-6)
    yield golden.check("rates_resumed", rates[int(golden["resumed_at"]) :], 1e-6)
    yield golden.check("other_rates", _rates(golden, "other_"), 1e-6)


def _rates(golden: Golden, prefix: str) -> np.ndarray:
    fields = {
        "schedule.gamma": f"{prefix}gamma",
        "schedule.milestones": f"{prefix}milestones",
        "schedule.warmup_factor": f"{prefix}warmup_factor",
        "schedule.warmup_epochs": "warmup_epochs",
    }
    schedule = optimizers.schedule(golden.fields("cssc", fields).schedule)
    epochs = jnp.arange(int(golden[f"{prefix}epochs"]), dtype=float)
    return float(golden[f"{prefix}learning_rate"]) * jax.jit(jax.vmap(schedule))(epochs)


_RULES = {
    "prcc_all": rules.NOTHING,
    "ltcc_standard": rules.STANDARD,
    "ltcc_cloth_changing": rules.CLOTH_CHANGING,
    "celeb_released": rules.SAME_POSITION,
    "celeb_distinct": rules.NOTHING,
}

CHECKS = {
    "model": check_model,
    "losses": check_losses,
    "augmentation": functools.partial(
        augmentation.check, resize="bilinear", erase_fill=(0.0, 0.0, 0.0)
    ),
    "sampler": check_sampler,
    "schedule": check_schedule,
    "evaluation": check_evaluation,
    "train_steps": check_train_steps,
}
