"""CSSC's golden files, recomputed; `docs/methods/cssc.md` describes what is in them."""

import ast
import dataclasses
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from sicl_jax import config as configs
from sicl_jax import devices, optimizers
from sicl_jax.data import augment, samplers
from sicl_jax.evaluation import FeatureSet, distances, rules
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.ranking import rank
from sicl_jax.losses import cross_entropy, hard_triplet, pairwise_distances
from sicl_jax.methods.cssc import weights
from sicl_jax.methods.cssc.method import Cssc, loss_terms
from sicl_jax.methods.cssc.model import HEADS, ContentSalientNet, Mining, MiningConfig
from sicl_jax.methods.embedder import Embedder
from sicl_jax.methods.state import Clock, TrainState, Weights
from sicl_jax.models.layers import l2_normalize
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.verify import Check, Golden
from sicl_jax.verify.checks import array_errors, group_error, norm_error, relative_error
from sicl_jax.verify.files import Arrays
from sicl_jax.verify.samplers import identity_faults
from sicl_jax.verify.schp import draw as drawn_weight
from sicl_jax.weights import torch_names

_OUTPUT = 1e-4
# Batch norms amplify rounding where a batch is small; PyTorch's float32 is as far from float64.
_GRADIENT = 5e-4
# Arrays smaller than this share of the largest are measured as if they were as large as that.


# ---- model.npz -----------------------------------------------------------------------------


_OF_TRAINING = {
    **{f"train_{what}_{name}": _OUTPUT for name in HEADS for what in ("feature", "logits")},
    **dict.fromkeys(("identity_losses", "triplet_losses"), _OUTPUT),
    **dict.fromkeys(("loss_before_triplet", "loss"), _OUTPUT),
    "grad_*": _GRADIENT,
    **dict.fromkeys(("gradient_statistics_before_triplet", "gradient_statistics"), _GRADIENT),
    **dict.fromkeys(("after_*", "running_statistics"), _OUTPUT),
}


def check_model(golden: Golden) -> Iterator[Check]:
    """Both modes, the gradients of the loss, running statistics, and a mining block alone."""
    yield from _check_evaluation_mode(golden)
    yield from golden.check_controlled(TrainingMode(golden), _OF_TRAINING, direct=_OF_TRAINING)
    for pool in ("avg", "max"):
        yield from _check_mining(golden, pool)


def _model(golden: Golden) -> ContentSalientNet:
    """The network of a file's sizes, with the weights that its names stand for."""
    shape = ResNetConfig("bottleneck", golden["stage_sizes"].tolist(), int(golden["width"]))
    model = nnx.eval_shape(
        lambda: ContentSalientNet(shape, int(golden["num_classes"]), mining=_mining(golden))
    )
    torch_names.assign(weights.names(model), _drawn(golden), golden.file)
    return model


def _mining(golden: Golden) -> MiningConfig:
    return MiningConfig(*(int(golden[name]) for name in ("part_num", "part_dim", "reduction")))


def _drawn(golden: Golden, kind: str = "parameter", prefix: str = "") -> dict[str, np.ndarray]:
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
    graph, state = nnx.split(_model(golden))

    @jax.jit
    def evaluate(state, images):
        model = nnx.merge(graph, state)
        trunk = jnp.mean(model.trunk(images, train=False), axis=(1, 2))
        feature, mirrored = model.embed(images), model.embed(images[:, :, ::-1])
        return trunk, feature, l2_normalize(feature + mirrored)

    trunk, feature, embedding = evaluate(state, _images(golden))
    yield golden.check("eval_stage3_mean", trunk, _OUTPUT)
    yield golden.check("eval_feature", feature, _OUTPUT)
    yield golden.check("embedding", embedding, _OUTPUT)


class TrainingMode:
    """One pass in training mode, with and without the triplet loss, and its gradients.

    Args:
        golden: The file, for the sizes of the network.
    """

    def __init__(self, golden: Golden):
        self._graph = nnx.graphdef(_model(golden))

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
        model = _model(golden)
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
            "gradient_statistics_before_triplet": _all_statistics(early, golden["gradient_names"]),
            "gradient_statistics": _all_statistics(late, golden["gradient_names"]),
            "after_*": {name: after[name] for name in golden.with_prefix("after_")},
            "running_statistics": _all_statistics(after, golden["statistics_names"]),
        }


def _gradients(model: ContentSalientNet) -> dict[str, np.ndarray]:
    """A model that holds gradients, by the authors' names; frozen biases have zeros."""
    names = weights.names(model)
    arrays = torch_names.collect(names)
    return {
        name: arrays[name] if isinstance(variable, nnx.Param) else np.zeros_like(arrays[name])
        for name, variable in names.items()
    }


def _all_statistics(arrays: Mapping[str, np.ndarray], names: Iterable[str]) -> np.ndarray:
    """(N, 3) mean, deviation and norm of the arrays of these names."""
    wide = (np.asarray(arrays[str(name)], np.float64) for name in names)
    return np.stack([(array.mean(), array.std(), np.linalg.norm(array)) for array in wide])


def _check_mining(golden: Golden, pool: str) -> Iterator[Check]:
    """One block alone in training mode, and the gradient that its three outputs give its input."""
    prefix = f"smr_{pool}"
    features = golden.expected(f"{prefix}_input").shape[1]
    classes = golden.expected(f"{prefix}_logits").shape[1]
    block = nnx.eval_shape(
        lambda: Mining(features, classes, _mining(golden), salient=pool == "max")
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
        drawn = _drawn(golden, "smr", f"{prefix}.")
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
    tolerances = dict.fromkeys(of_outputs, _OUTPUT) | {f"{prefix}_grad_input": _GRADIENT}
    yield from golden.check_controlled(compute, tolerances, direct=tolerances)


# ---- losses.npz ----------------------------------------------------------------------------


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


# ---- augmentation.npz ----------------------------------------------------------------------


def check_augmentation(golden: Golden) -> Iterator[Check]:
    """The published rectangles from the published generator's draws; the chain given its draws."""
    config = augment.AugmentConfig(flip=0.5, pad=int(golden["pad"]), erase_fill=(0.0, 0.0, 0.0))
    boxes = _boxes(golden["erase_seeds"], golden["erase_size"], config)
    yield golden.check("erase_boxes", boxes, 0.0)
    yield golden.check(
        "chain_boxes", _boxes(golden["chain_erase_seeds"], golden["size"], config), 0.0
    )
    height, width = golden["size"].tolist()
    resized = np.stack([_resized(image, height, width) for image in golden["raw"]])

    @jax.jit
    def chain(images, flips, crops, boxes):
        images = augment.pad_and_crop(augment.flip(images, flips), crops, config.pad)
        return augment.erase(augment.normalize(images), boxes, config.erase_fill)

    plain = jax.jit(augment.normalize)(resized)
    full = chain(resized, golden["flips"] > 0, golden["crops"], golden["chain_boxes"])
    yield golden.check("test_inputs", plain.transpose(0, 3, 1, 2), 1e-6)
    yield golden.check("train_inputs", full.transpose(0, 3, 1, 2), 1e-6)


def _boxes(seeds, size, config: augment.AugmentConfig) -> np.ndarray:
    """The rectangles of one image for each seed of Python's generator, drawn as published."""
    height, width = (int(side) for side in size)
    draws = [_published_draws(int(seed), height, width, config) for seed in seeds]
    stacked = augment.Draws(*(np.stack(column) for column in zip(*draws, strict=True)))
    with jax.enable_x64(True):  # As the published code computes: sides are rounded to pixels.
        return np.asarray(
            jax.jit(lambda draws: augment.rectangles(draws, (height, width), config))(stacked)
        )


def _published_draws(
    seed: int, height: int, width: int, config: augment.AugmentConfig
) -> augment.Draws:
    """One image's draws: a coin; area and ratio in turn until a rectangle fits; top and left."""
    rng = random.Random(seed)  # noqa: S311 - the published generator.
    coin = rng.random()
    tries = np.zeros((2, config.erase_tries))
    place = np.zeros(2)
    for column in range(config.erase_tries if coin < config.erase else 0):
        tries[:, column] = rng.random(), rng.random()
        low, high = np.array([config.erase_area, config.erase_aspect]).T
        area, ratio = low + tries[:, column] * (high - low)
        tall = round(np.sqrt(area * height * width * ratio))
        wide = round(np.sqrt(area * height * width / ratio))
        if tall < height and wide < width:
            rooms = height - tall, width - wide
            place[:] = [(rng.randint(0, room) + 0.5) / (room + 1) for room in rooms]
            break
    none, nowhere = np.ones(()), np.zeros(2)
    return augment.Draws(none, none, none, nowhere, np.array(coin), place, *tries)


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


# ---- sampler.npz ---------------------------------------------------------------------------


def check_sampler(golden: Golden) -> Iterator[Check]:
    """Our epochs obey the rules that the published ones do, and are as long on average."""
    labels = golden["labels"]
    batch_size, num_instances = int(golden["batch_size"]), int(golden["num_instances"])
    theirs = [golden[f"epoch{i}"].reshape(-1, batch_size) for i in range(len(golden["seeds"]))]
    lengths = golden["batches_of_200_epochs"]
    ours = [
        samplers.draw_identities(
            labels,
            batch_size=batch_size,
            num_instances=num_instances,
            rng=np.random.default_rng(seed),
        )
        for seed in range(len(lengths))
    ]
    for quantity, epochs in (("epoch*: rules", theirs), ("our epochs: rules", ours)):
        faults = sum(identity_faults(epoch, labels, num_instances) for epoch in epochs)
        yield golden.verdict(quantity, faults, 0.0)
    counts = np.array([len(epoch) for epoch in ours])
    deviation = np.sqrt((counts.var() + lengths.var()) / len(lengths)) or 1.0
    apart = abs(counts.mean() - lengths.mean()) / deviation
    yield golden.verdict("batches_of_200_epochs: mean, in deviations", apart, 4.0)


# ---- evaluation.npz ------------------------------------------------------------------------


def check_evaluation(golden: Golden) -> Iterator[Check]:
    """Distances, and each protocol's curve and mean average precision."""
    query, gallery = (_feature_set(golden, side) for side in ("query", "gallery"))
    found = distances.distance_rows(query, gallery)(0, len(query))
    yield golden.check("distance", found, 1e-5)
    for name, ranking in rank(query, gallery, _RULES).items():
        first = ranking.first_match[ranking.first_match > 0]
        ranks = 1 + np.arange(len(golden[f"{name}_cmc"]))
        curve = np.mean(first[:, None] <= ranks, axis=0)
        yield golden.check(f"{name}_cmc", curve, 1e-5)
        yield golden.check(f"{name}_map", summarize(ranking).mAP, 1e-5)


def _feature_set(golden: Golden, side: str) -> FeatureSet:
    names = {"identity": "identities", "camera": "cameras", "clothes": "clothes"}
    labels = {label: golden[f"{side}_{name}"] for label, name in names.items()}
    return FeatureSet(np.asarray(l2_normalize(golden[f"{side}_features"])), labels)


# ---- schedule.npz --------------------------------------------------------------------------


def check_schedule(golden: Golden) -> Iterator[Check]:
    """Learning rates by epoch, for a run that goes on after a stop too, and for other settings."""
    rates = _rates(golden, "")
    yield golden.check("rates", rates, 1e-6)
    yield golden.check("rates_resumed", rates[int(golden["resumed_at"]) :], 1e-6)
    yield golden.check("other_rates", _rates(golden, "other_"), 1e-6)


def _rates(golden: Golden, prefix: str) -> np.ndarray:
    schedule = configs.base("cssc").schedule
    schedule.gamma = float(golden[f"{prefix}gamma"])
    schedule.milestones = tuple(golden[f"{prefix}milestones"].tolist())
    schedule.warmup_factor = float(golden[f"{prefix}warmup_factor"])
    schedule.warmup_epochs = int(golden["warmup_epochs"])
    epochs = jnp.arange(int(golden[f"{prefix}epochs"]), dtype=float)
    factors = jax.jit(jax.vmap(optimizers.schedule(schedule)))(epochs)
    return float(golden[f"{prefix}learning_rate"]) * factors


# ---- train_steps.npz -----------------------------------------------------------------------


# Adam divides by the gradient's magnitude: where that is small, rounding decides the direction.
_AFTER_ADAM = 1e-3
_CHANGE = 5e-2
_FINAL = ("statistics", "change_statistics", "embedding")
_TOLERANCES = {
    "rates": 1e-6,
    **dict.fromkeys(("identity_losses", "triplet_losses", "losses"), _AFTER_ADAM),
    **dict.fromkeys(("identity_losses of the first step", "losses of the first step"), _OUTPUT),
    **dict.fromkeys(("step1_statistics", "final_statistics", "final_*"), _AFTER_ADAM),
    **dict.fromkeys(("step1_change_statistics", "final_change_statistics"), _CHANGE),
    "final_* less the drawn (norm)": _CHANGE,
    "final_embedding": _AFTER_ADAM,
}


def check_train_steps(golden: Golden) -> Iterator[Check]:
    """Three steps of the whole method, an epoch each, on images as they are."""
    final = [name for name in golden.with_prefix("final_") if name not in _FINAL]
    drawn = _drawn(golden)

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
        config.mining = dataclasses.asdict(_mining(golden))
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
        drawn = _drawn(golden)
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
        f"{prefix}_statistics": _all_statistics(arrays, drawn),
        f"{prefix}_change_statistics": _all_statistics(changes, drawn),
    }


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
    "augmentation": check_augmentation,
    "sampler": check_sampler,
    "schedule": check_schedule,
    "evaluation": check_evaluation,
    "train_steps": check_train_steps,
}
