"""Checks of the golden files of Cluster Contrast's published code (`sicl_jax.verify`)."""

import ast
import dataclasses
import math
import random
from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from sicl_jax import clustering, optimizers
from sicl_jax import config as configs
from sicl_jax.data.augment import AugmentConfig, Draws, apply, normalize, rectangles
from sicl_jax.data.pixels import Form
from sicl_jax.evaluation import FeatureSet, rules
from sicl_jax.evaluation.distances import distance_rows
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.ranking import rank
from sicl_jax.losses import cluster_contrast
from sicl_jax.memory import prototypes_of, update_cluster_memory
from sicl_jax.methods.cluster_contrast.method import ClusterContrast
from sicl_jax.methods.cluster_contrast.verify_sampler import check_sampler
from sicl_jax.methods.state import Weights
from sicl_jax.models.encoder import Encoder
from sicl_jax.models.layers import Frozen, l2_normalize
from sicl_jax.models.resnet import GeneralizedMean, ResNetConfig
from sicl_jax.verify import Check, Golden
from sicl_jax.verify.checks import Arrays, array_errors, norm_error, relative_error
from sicl_jax.verify.schp import draw
from sicl_jax.weights import torch_names

_MODEL, _GRADIENT = 1e-4, 1e-3
_MEMORY, _MEMORY_GRADIENT = 1e-6, 1e-5
_EPOCH, _SCHEDULE, _EVALUATION, _AUGMENTATION = 1e-5, 1e-6, 1e-6, 1e-6
_FIRST, _LATER, _CHANGE = 1e-4, 1e-3, 1e-2
_FROZEN = "feat_bn.bias"


def check_model(golden: Golden) -> Iterator[Check]:
    """`model.npz`: the encoder with both poolings, and with batch norms in parts."""
    yield from _check_pooling(golden)
    for case in ("gem", "avg", "split"):
        if case != "split":
            encoder = encoder_of(golden, case, published_arrays(golden))
            pooled, feature = jax.jit(_evaluate)(encoder, _images(golden))
            yield golden.check(f"{case}_eval_pooled", pooled, _MODEL)
            yield golden.check(f"{case}_eval_feature", feature, _MODEL)
        yield from _check_training(golden, case)


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


def check_epoch(golden: Golden) -> Iterator[Check]:
    """`epoch.npz`: from features to distances, labels, the memory, and who is left out."""
    features = golden["features"]
    k1, k2 = int(golden["k1"]), int(golden["k2"])
    similarity = clustering.jaccard_similarity(features, k1, k2).toarray()
    yield golden.check("jaccard_distance", 1 - similarity, _EPOCH)
    options = {"k1": k1, "k2": k2, "eps": float(golden["eps"])}
    options["min_samples"] = int(golden["min_samples"])
    method = ClusterContrast(_config(clustering=options))
    labels = method.cluster(features)
    yield golden.check_partition("labels", labels)
    kept = np.flatnonzero(labels >= 0)
    yield golden.verdict("used", relative_error(kept, golden.expected("used")), 0.0)

    theirs = golden.expected("labels")
    memory = method.memory_of(labels, features)
    centres = prototypes_of(features, np.where(labels < 0, len(labels), labels), memory.counts)
    yield golden.check("centres", _in_their_order(centres, labels, theirs), _EPOCH)
    yield golden.check("memory", _in_their_order(memory.rows, labels, theirs), _EPOCH)


def check_schedule(golden: Golden) -> Iterator[Check]:
    """`schedule.npz`: the rate of every epoch."""
    for prefix in ("", "other_"):
        config = _config(
            optimizer={"learning_rate": float(golden[f"{prefix}learning_rate"])},
            schedule={"every": int(golden[f"{prefix}step_size"]), "gamma": float(golden["gamma"])},
        )
        epochs = jnp.arange(int(golden[f"{prefix}epochs"])).astype(float)
        factors = jax.vmap(optimizers.schedule(config.schedule))(epochs)
        rates = config.optimizer.learning_rate * factors
        yield golden.check(f"{prefix}rates", rates, _SCHEDULE)


def check_evaluation(golden: Golden) -> Iterator[Check]:
    """`evaluation.npz`: distances, and the standard test with equal distances as one step."""
    query, gallery = (
        FeatureSet(
            golden[f"{side}_features"],
            {"identity": golden[f"{side}_identities"], "camera": golden[f"{side}_cameras"]},
        )
        for side in ("query", "gallery")
    )
    yield golden.check("distance", distance_rows(query, gallery)(0, len(query)), _EVALUATION)
    result = _standard(query, gallery)
    yield golden.check("cmc", _cmc(result, len(golden.expected("cmc"))), _EVALUATION)
    yield golden.check("map", result.mAP, _EVALUATION)
    tied = golden["tied_distance"]
    result = _standard(query, gallery, distances=lambda start, stop: tied[start:stop])
    yield golden.check("tied_map", result.mAP, _EVALUATION)


def check_augmentation(golden: Golden) -> Iterator[Check]:
    """`augmentation.npz`: the chain by the published generator's draws."""
    size = tuple(golden["erase_size"].tolist())
    draws = _erasing_draws(golden["erase_seeds"].tolist(), size)
    boxes = rectangles(draws, size, AugmentConfig())
    yield golden.check("erase_boxes", boxes, _AUGMENTATION)

    size, pad = tuple(golden["size"].tolist()), int(golden["pad"])
    form = Form(size)
    raw = np.stack([form.fit(Image.fromarray(picture)) for picture in golden["raw"]])
    inputs = normalize(jnp.asarray(raw)).transpose(0, 3, 1, 2)
    yield golden.check("test_inputs", inputs, _AUGMENTATION)
    config = AugmentConfig(pad=pad)
    draws = _erasing_draws(golden["chain_erase_seeds"].tolist(), size)._replace(
        flip=jnp.where(golden["flips"] > 0, 0.0, 1.0),
        crop=(golden["crops"] + 0.5) / (2 * pad + 1),
    )
    yield golden.check("chain_boxes", rectangles(draws, size, config), _AUGMENTATION)
    inputs = apply(draws, jnp.asarray(raw), config).transpose(0, 3, 1, 2)
    yield golden.check("train_inputs", inputs, _AUGMENTATION)


def check_train_steps(golden: Golden) -> Iterator[Check]:
    """`train_steps*.npz`: two epochs of the main program, and the test after them."""
    compute = TrainSteps(golden)
    ours, initial = compute(golden), published_arrays(golden)
    for epoch in range(len(golden["batches"])):
        yield golden.check_partition(f"epoch{epoch}_labels", ours[f"epoch{epoch}_labels"])

    def errors(actual: Arrays, expected: Arrays) -> dict[str, float]:
        found = array_errors(actual, expected)
        first = relative_error(actual["losses"][0, 0], expected["losses"][0, 0])
        found["losses of the first step"] = first
        # Four steps move a weight by a thousandth: weights alone would agree without any.
        moves = (
            {name: arrays["final_*"][name] - initial[name] for name in expected["final_*"]}
            for arrays in (actual, expected)
        )
        found["final_* less the initial ones (norm)"] = norm_error(*moves)
        return found

    tolerances = {"step0_features": _FIRST}
    for epoch in range(len(golden["batches"])):
        before = _LATER if epoch else _FIRST
        tolerances |= {f"epoch{epoch}_features": before, f"epoch{epoch}_memory": before}
        tolerances[f"epoch{epoch}_memory_after"] = _LATER
    tolerances |= {"losses of the first step": _FIRST, "losses": _LATER, "rates": _SCHEDULE}
    tolerances |= {"final_*": _LATER, "final_statistics": _LATER}
    tolerances |= {"final_* less the initial ones (norm)": _CHANGE}
    tolerances |= {"final_change_statistics": _CHANGE, "final_embedding": _LATER}
    tolerances |= {"map": _LATER, "cmc": _LATER}
    yield from golden.check_controlled(
        lambda other: ours if other is golden else compute(other), tolerances, errors=errors
    )


CHECKS = {
    "model": check_model,
    "memory": check_memory,
    "epoch": check_epoch,
    "sampler": check_sampler,
    "schedule": check_schedule,
    "evaluation": check_evaluation,
    "augmentation": check_augmentation,
    "train_steps": check_train_steps,
    "train_steps_split": check_train_steps,
}


# ---- the model -----------------------------------------------------------------------------


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
            arrays[name] = golden.as_input(name, draw(name, shape))
    return arrays


def _images(golden: Golden) -> jax.Array:
    return normalize(jnp.asarray(golden["images"].transpose(0, 2, 3, 1)))


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


def _check_training(golden: Golden, case: str) -> Iterator[Check]:
    """One pass in training mode: feature, loss, gradients, statistics and the memory after it."""
    temperature, momentum = float(golden["temperature"]), float(golden["momentum"])
    graph = nnx.graphdef(encoder_of(golden, case, published_arrays(golden)))

    @jax.jit
    def gradient(params, rest, images, rows, labels):
        def loss(params):
            model = nnx.merge(graph, params, rest, copy=True)
            feature = model.feature(model.pool(images, train=True), train=True)
            value = cluster_contrast(feature, rows, np.ones(len(rows)), labels, temperature)
            after = update_cluster_memory(rows, labels, feature, momentum)
            return value, (feature, after, nnx.state(model, (Frozen, nnx.BatchStat)))

        return jax.value_and_grad(loss, has_aux=True)(params)

    # feat_bn's frozen bias has a gradient in the file, though no optimiser takes it.
    kept = [name for name in golden.with_prefix(f"{case}_grad_") if name != _FROZEN]
    listed, statistics = golden[f"{case}_gradient_names"], f"{case}_gradient_statistics"

    def compute(golden: Golden) -> Arrays:
        encoder = encoder_of(golden, case, published_arrays(golden))
        _, params, rest = nnx.split(encoder, nnx.Param, (Frozen, nnx.BatchStat))
        inputs = _images(golden), jnp.asarray(golden["bank"]), golden["labels"]
        (value, (feature, after, rest)), gradients = gradient(params, rest, *inputs)
        moved, gradients = (
            torch_names.collect(torch_names.encoder(nnx.merge(graph, of_params, rest)))
            for of_params in (params, gradients)
        )
        found = np.stack([summary(gradients[name]) for name in listed])
        found[listed == _FROZEN] = golden.expected(statistics)[listed == _FROZEN]
        return {
            f"{case}_train_feature": feature,
            f"{case}_loss": value,
            f"{case}_bank_after": after,
            f"{case}_after_*": {n: moved[n] for n in golden.with_prefix(f"{case}_after_")},
            f"{case}_grad_*": {name: gradients[name] for name in kept},
            statistics: found,
        }

    of_pass = (f"{case}_train_feature", f"{case}_loss", f"{case}_bank_after", f"{case}_after_*")
    tolerances = dict.fromkeys(of_pass, _MODEL)
    tolerances |= dict.fromkeys((f"{case}_grad_*", statistics), _GRADIENT)
    yield from golden.check_controlled(compute, tolerances, direct=tolerances)


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


# ---- clusters -----------------------------------------------------------------------------


def _in_their_order(rows: jax.Array, labels: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Rows by our label numbers in the order of theirs."""
    first = [np.flatnonzero(theirs == number)[0] for number in range(theirs.max() + 1)]
    return np.asarray(rows)[labels[first]]


# ---- augmentation ---------------------------------------------------------------------------


def _erasing_draws(seeds: Sequence[int], size: tuple[int, int]) -> Draws:
    """What the published erasing draws from Python's generator, one seed an image.

    The order is: whether to erase; area and ratio until they fit; top and left.
    """
    height, width = size
    config = AugmentConfig()
    erase, place = np.zeros(len(seeds)), np.zeros((len(seeds), 2))
    tries = np.zeros((2, len(seeds), config.erase_tries))
    for row, seed in enumerate(seeds):
        rng = random.Random(seed)
        erase[row] = rng.random()
        if erase[row] >= config.erase:
            continue
        for number in range(config.erase_tries):
            tries[:, row, number] = share, ratio = rng.random(), rng.random()
            low, high = config.erase_area
            area = (low + (high - low) * share) * height * width
            low, high = config.erase_aspect
            aspect = low + (high - low) * ratio
            tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if tall < height and wide < width:
                room = (height - tall, width - wide)
                place[row] = [(rng.randint(0, r) + 0.5) / (r + 1) for r in room]
                break
    never = jnp.ones(len(seeds))
    return Draws(
        grey=never,
        flip=never,
        enlarge=never,
        crop=jnp.zeros((len(seeds), 2)),
        erase=jnp.asarray(erase),
        place=jnp.asarray(place),
        area=jnp.asarray(tries[0]),
        aspect=jnp.asarray(tries[1]),
    )


# ---- training -------------------------------------------------------------------------------


def _config(**groups):
    """The method's config with other values in some groups."""
    config = configs.base("cluster_contrast")
    for group, values in groups.items():
        config[group].update(values)
    return config


def _training_config(golden: Golden):
    return _config(
        model={
            "width": int(golden["width"]),
            "stage_sizes": tuple(map(int, golden["stage_sizes"])),
            "batch_norm_parts": int(golden["replicas"]),
            "dtype": "float32",
        },
        clustering={"k1": int(golden["k1"]), "k2": int(golden["k2"]), "eps": float(golden["eps"])},
        memory={
            "momentum": float(golden["momentum"]),
            "temperature": float(golden["temperature"]),
            "hard": bool(golden["use_hard"]),
        },
        optimizer={
            "learning_rate": float(golden["learning_rate"]),
            "weight_decay": float(golden["weight_decay"]),
        },
        schedule={"every": int(golden["step_size"])},
    )


class TrainSteps:
    """Runs a file's epochs.

    Args:
        golden: The file, for the fields of the config.
    """

    def __init__(self, golden: Golden):
        self._method = method = ClusterContrast(_training_config(golden))

        @jax.jit
        def feature(weights, images):
            model = method.model(weights)
            return model.feature(model.pool(normalize(images), train=True), train=True)

        @jax.jit
        def step(state, images, indexes):
            return method.step(
                state,
                lambda model, memory: method.contrast(model, memory, normalize(images), indexes),
            )

        self._feature, self._step = feature, step
        self._embed = jax.jit(lambda weights, x: method.model(weights).embed(normalize(x)))

    def __call__(self, golden: Golden) -> Arrays:
        """What the file holds of each epoch and of the model after the last one."""
        method, initial = self._method, published_arrays(golden)
        images, test_images = (
            jnp.asarray(golden[name].transpose(0, 2, 3, 1)) for name in ("images", "test_images")
        )
        model = method.abstract_model()
        torch_names.assign(method.names(model), initial, golden.file)
        state = method.start(Weights.of(model), ())
        found = {"step0_features": self._feature(state.weights, images[golden["batches"][0, 0]])}
        losses, rates = [], []
        for epoch, batches in enumerate(golden["batches"]):
            features = np.asarray(self._embed(state.weights, images))
            labels, theirs = method.cluster(features), golden.expected(f"epoch{epoch}_labels")
            memory = method.memory_of(labels, features)
            clock = dataclasses.replace(state.clock, epoch=jnp.asarray(epoch, jnp.int32))
            state = dataclasses.replace(state, memory=memory, clock=clock)
            for rows in batches:
                state, metrics = self._step(state, images[rows], jnp.asarray(rows))
                losses.append(float(metrics["loss"]))
            rates.append(float(metrics["learning_rate"]))
            found |= {
                f"epoch{epoch}_features": features,
                f"epoch{epoch}_labels": labels,
                f"epoch{epoch}_memory": _in_their_order(memory.rows, labels, theirs),
                f"epoch{epoch}_memory_after": _in_their_order(state.memory.rows, labels, theirs),
            }
        found |= {"losses": np.reshape(losses, golden["batches"].shape[:2]), "rates": rates}
        final = torch_names.collect(method.names(method.model(state.weights)))
        names = golden["parameter_names"].tolist()
        kept = golden.with_prefix("final_")
        tested = self._tested(golden, self._embed(state.weights, test_images))
        return found | {
            "final_*": {name: final[name] for name in kept if name in final},
            "final_statistics": np.stack([summary(final[name]) for name in names]),
            "final_change_statistics": np.stack(
                [summary(final[name] - initial[name]) for name in names]
            ),
            "final_embedding": self._embed(state.weights, images),
            "map": tested.mAP,
            "cmc": _cmc(tested, len(golden.expected("cmc"))),
        }

    def _tested(self, golden: Golden, features: jax.Array):
        labels = {"identity": golden["test_identities"], "camera": golden["test_cameras"]}
        tested = FeatureSet(np.asarray(features), labels)
        is_query = np.arange(len(tested)) < int(golden["num_query"])
        return _standard(tested.take(is_query), tested.take(~is_query))


def _standard(query: FeatureSet, gallery: FeatureSet, distances=None):
    ranking = rank(query, gallery, {"": rules.STANDARD}, ties="together", distances=distances)
    return summarize(ranking[""])


def _cmc(result, ranks: int) -> np.ndarray:
    """The curve up to a rank, from the rankings: the result's own may end earlier."""
    first = result.rankings[0].first_match
    return np.array([np.mean(first[first > 0] <= rank) for rank in range(1, ranks + 1)])
