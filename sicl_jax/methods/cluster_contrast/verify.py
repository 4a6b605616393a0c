"""Checks of the golden files of Cluster Contrast's published code (`sicl_jax.verify`)."""

import dataclasses
import random
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sicl_jax import clustering, optimizers
from sicl_jax.data.augment import normalize
from sicl_jax.data.samplers import draw_pseudo_identities
from sicl_jax.evaluation import FeatureSet, Result, rules
from sicl_jax.evaluation.distances import distance_rows
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.ranking import rank
from sicl_jax.losses import cluster_contrast
from sicl_jax.memory import prototypes_of, update_cluster_memory
from sicl_jax.methods.cluster_contrast.method import ClusterContrast
from sicl_jax.models.encoder import Encoder
from sicl_jax.models.layers import l2_normalize
from sicl_jax.models.resnet import GeneralizedMean, ResNetConfig
from sicl_jax.verify import Check, Golden, augmentation, evaluation
from sicl_jax.verify.checks import Arrays, array_errors, relative_error, statistics
from sicl_jax.verify.networks import Pass, begun, nchw, nhwc
from sicl_jax.verify.schp import draw
from sicl_jax.weights import torch_names

_MODEL, _GRADIENT = 1e-4, 1e-3
_MEMORY, _MEMORY_GRADIENT = 1e-6, 1e-5
_EPOCH, _SCHEDULE, _EVALUATION = 1e-5, 1e-6, 1e-6
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


def _images(golden: Golden) -> jax.Array:
    return normalize(nhwc(golden["images"]))


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

    def contrast(model, images, rows, labels):
        feature = model.feature(model.pool(images, train=True), train=True)
        value = cluster_contrast(feature, rows, np.ones(len(rows)), labels, temperature)
        return value, (feature, update_cluster_memory(rows, labels, feature, momentum))

    model = encoder_of(golden, case, published_arrays(golden))
    run = Pass(model, torch_names.encoder, contrast)
    # feat_bn's frozen bias has a gradient in the file, though no optimiser takes it.
    kept = [name for name in golden.with_prefix(f"{case}_grad_") if name != _FROZEN]
    listed, of_gradients = golden[f"{case}_gradient_names"], f"{case}_gradient_statistics"

    def compute(golden: Golden) -> Arrays:
        encoder = encoder_of(golden, case, published_arrays(golden))
        inputs = _images(golden), jnp.asarray(golden["bank"]), golden["labels"]
        found = run(encoder, *inputs, flips=golden.flips)
        feature, bank = found.outputs
        summed_up = statistics(found.gradients, listed)
        summed_up[listed == _FROZEN] = golden.expected(of_gradients)[listed == _FROZEN]
        return {
            f"{case}_train_feature": feature,
            f"{case}_loss": found.value,
            f"{case}_bank_after": bank,
            f"{case}_after_*": {n: found.after[n] for n in golden.with_prefix(f"{case}_after_")},
            f"{case}_grad_*": {name: found.gradients[name] for name in kept},
            of_gradients: summed_up,
        }

    of_pass = (f"{case}_train_feature", f"{case}_loss", f"{case}_bank_after", f"{case}_after_*")
    tolerances = dict.fromkeys(of_pass, _MODEL)
    tolerances |= dict.fromkeys((f"{case}_grad_*", of_gradients), _GRADIENT)
    yield from golden.check_controlled(compute, tolerances, direct=tolerances)


def _check_pooling(golden: Golden) -> Iterator[Check]:
    """GeM alone; some of the maps lie below its floor, where no gradient passes."""

    def weighted(pooling, maps):
        pooled = pooling(maps)
        return jnp.sum(pooled * golden["pool_weight"]), pooled

    maps = nhwc(golden["pool_input"])
    pooling = GeneralizedMean(float(golden["initial_p"]))
    found = Pass(pooling, lambda pooling: {"p": pooling.p}, weighted, argnums=(0, 1))(pooling, maps)
    yield golden.check("pool_output", found.outputs, _MODEL)
    yield golden.check("pool_grad_input", nchw(found.of_input), _GRADIENT)
    yield golden.check("pool_grad_p", found.gradients["p"], _GRADIENT)


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
    names = ("k1", "k2", "eps", "min_samples")
    config = golden.fields("cluster_contrast", {f"clustering.{name}": name for name in names})
    options = config.clustering
    similarity = clustering.jaccard_similarity(features, options.k1, options.k2).toarray()
    yield golden.check("jaccard_distance", 1 - similarity, _EPOCH)
    method = ClusterContrast(config)
    labels = method.cluster(features)
    yield golden.check_partition("labels", labels)
    kept = np.flatnonzero(labels >= 0)
    yield golden.verdict("used", relative_error(kept, golden.expected("used")), 0.0)

    theirs = golden.expected("labels")
    memory = method.memory_of(labels, features)
    centres = prototypes_of(features, np.where(labels < 0, len(labels), labels), memory.counts)
    yield golden.check("centres", in_their_order(centres, labels, theirs), _EPOCH)
    yield golden.check("memory", in_their_order(memory.rows, labels, theirs), _EPOCH)


def check_schedule(golden: Golden) -> Iterator[Check]:
    """`schedule.npz`: the rate of every epoch."""
    for prefix in ("", "other_"):
        fields = {
            "optimizer.learning_rate": f"{prefix}learning_rate",
            "schedule.every": f"{prefix}step_size",
            "schedule.gamma": "gamma",
        }
        config = golden.fields("cluster_contrast", fields)
        epochs = jnp.arange(int(golden[f"{prefix}epochs"])).astype(float)
        factors = jax.vmap(optimizers.schedule(config.schedule))(epochs)
        yield golden.check(f"{prefix}rates", config.optimizer.learning_rate * factors, _SCHEDULE)


def check_evaluation(golden: Golden) -> Iterator[Check]:
    """`evaluation.npz`: distances, and the standard test with equal distances as one step."""
    labels = {"identity": "identities", "camera": "cameras"}
    query, gallery = evaluation.sides(golden, labels)
    yield golden.check("distance", distance_rows(query, gallery)(0, len(query)), _EVALUATION)
    result = standard(query, gallery)
    curve = result.rankings[0].cmc(len(golden.expected("cmc")))
    yield golden.check("cmc", curve, _EVALUATION)
    yield golden.check("map", result.mAP, _EVALUATION)
    tied = golden["tied_distance"]
    result = standard(query, gallery, distances=lambda start, stop: tied[start:stop])
    yield golden.check("tied_map", result.mAP, _EVALUATION)


# ---- train_steps*.npz -----------------------------------------------------------------------

_FIRST, _LATER, _CHANGE = 1e-4, 1e-3, 1e-2
_FIELDS = {
    "model.width": "width",
    "model.stage_sizes": "stage_sizes",
    "model.batch_norm_parts": "replicas",
    "clustering.k1": "k1",
    "clustering.k2": "k2",
    "clustering.eps": "eps",
    "memory.momentum": "momentum",
    "memory.temperature": "temperature",
    "memory.hard": "use_hard",
    "optimizer.learning_rate": "learning_rate",
    "optimizer.weight_decay": "weight_decay",
    "schedule.every": "step_size",
}


def published_arrays(golden: Golden) -> dict[str, np.ndarray]:
    """The initial weights of a file, by the published names and in PyTorch's layouts.

    Running statistics lie in one row; the rest is drawn by name.
    """
    arrays, place, row = golden.drawn(draw), 0, golden["initial_running"]
    for name, array in arrays.items():
        if "running" in name:
            arrays[name] = row[place : place + len(array)]
            place += len(array)
        elif name == "gap.p":
            arrays[name] = np.full(array.shape, golden["initial_p"], row.dtype)
    return arrays


def check_train_steps(golden: Golden) -> Iterator[Check]:
    """`train_steps*.npz`: two epochs of the main program, and the test after them."""
    compute = TrainSteps(golden)
    ours, moved = compute(golden), "final_* less the initial ones (norm)"
    initial, epochs = {moved: published_arrays(golden)}, range(len(golden["batches"]))
    for epoch in epochs:
        yield golden.check_partition(f"epoch{epoch}_labels", ours[f"epoch{epoch}_labels"])

    def errors(actual: Arrays, expected: Arrays) -> dict[str, float]:
        found = array_errors(actual, expected, begun=initial)
        first = relative_error(actual["losses"][0, 0], expected["losses"][0, 0])
        return found | {"losses of the first step": first}

    tolerances = {"step0_features": _FIRST}
    for epoch in epochs:
        before = _LATER if epoch else _FIRST
        tolerances |= {f"epoch{epoch}_features": before, f"epoch{epoch}_memory": before}
        tolerances[f"epoch{epoch}_memory_after"] = _LATER
    tolerances |= {"losses of the first step": _FIRST, "losses": _LATER, "rates": _SCHEDULE}
    tolerances |= {"final_*": _LATER, "final_statistics": _LATER, moved: _CHANGE}
    tolerances |= {"final_change_statistics": _CHANGE, "final_embedding": _LATER}
    tolerances |= {"map": _LATER, "cmc": _LATER}
    yield from golden.check_controlled(
        lambda other: ours if other is golden else compute(other), tolerances, errors=errors
    )


class TrainSteps:
    """Runs a file's epochs.

    Args:
        golden: The file, for the fields of the config.
    """

    def __init__(self, golden: Golden):
        config = golden.fields("cluster_contrast", _FIELDS)
        config.model.dtype = "float32"
        self._method = method = ClusterContrast(config)

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
        images, test_images = (nhwc(golden[name]) for name in ("images", "test_images"))
        state = begun(method, initial, golden)
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
                f"epoch{epoch}_memory": in_their_order(memory.rows, labels, theirs),
                f"epoch{epoch}_memory_after": in_their_order(state.memory.rows, labels, theirs),
            }
        found |= {"losses": np.reshape(losses, golden["batches"].shape[:2]), "rates": rates}
        final = torch_names.collect(method.names(method.model(state.weights)))
        names, changes = initial.keys(), {n: final[n] - initial[n] for n in initial}
        kept = golden.with_prefix("final_")
        tested = self._tested(golden, self._embed(state.weights, test_images))
        return found | {
            "final_*": {name: final[name] for name in kept if name in final},
            "final_statistics": statistics(final, names),
            "final_change_statistics": statistics(changes, names),
            "final_embedding": self._embed(state.weights, images),
            "map": tested.mAP,
            "cmc": tested.rankings[0].cmc(len(golden.expected("cmc"))),
        }

    def _tested(self, golden: Golden, features: jax.Array) -> Result:
        labels = {"identity": golden["test_identities"], "camera": golden["test_cameras"]}
        tested = FeatureSet(np.asarray(features), labels)
        is_query = np.arange(len(tested)) < int(golden["num_query"])
        return standard(tested.take(is_query), tested.take(~is_query))


def in_their_order(rows: jax.Array, labels: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Rows by our label numbers in the order of theirs."""
    first = [np.flatnonzero(theirs == number)[0] for number in range(theirs.max() + 1)]
    return np.asarray(rows)[labels[first]]


def standard(query: FeatureSet, gallery: FeatureSet, distances=None) -> Result:
    """The standard test; images at the same distance are one step."""
    ranking = rank(query, gallery, {"": rules.STANDARD}, ties="together", distances=distances)
    return summarize(ranking[""])


# ---- sampler.npz ----------------------------------------------------------------------------

_SHARES, _PASSES = 0.12, 3000


def check_sampler(golden: Golden) -> Iterator[Check]:
    """Passes by the published generators' draws; statistics by our own."""
    labels = golden["labels"]
    options = {"num_instances": int(golden["num_instances"])}
    for case, cameras in {"camera": golden["cameras"], "nocam": None}.items():
        for number, seed in enumerate(golden["seeds"].tolist()):
            expected = golden.expected(f"{case}_pass{number}")
            rng = _PublishedDraws(seed, golden[f"{case}_order{number}"])
            drawn = draw_pseudo_identities(
                labels, cameras, steps=1, batch_size=len(expected), rng=rng, **options
            )
            error = relative_error(drawn[0], expected)
            yield golden.verdict(f"{case}_pass{number}", error, 0.0)

        expected = golden.expected(f"{case}_batches")
        passes = golden.with_prefix(f"{case}_batches_pass")
        rng = _RecordedDraws([passes[name] for name in sorted(passes)], labels)
        steps, batch_size = expected.shape
        drawn = draw_pseudo_identities(
            labels, cameras, steps=steps, batch_size=batch_size, rng=rng, **options
        )
        yield golden.verdict(f"{case}_batches", relative_error(drawn, expected), 0.0)

        length = len(golden.expected(f"{case}_pass0"))
        passes = draw_pseudo_identities(
            labels,
            cameras,
            steps=_PASSES,
            batch_size=length,
            rng=np.random.default_rng(0),
            **options,
        )
        counts = np.stack([np.bincount(drawn, minlength=len(labels)) for drawn in passes])
        yield golden.check(f"{case}_mean_count", counts.mean(axis=0), _SHARES)
        repeated = np.stack([np.bincount(labels, row > 1) > 0 for row in counts])
        yield golden.check(f"{case}_repeated_share", repeated.mean(axis=0), _SHARES)


class _PublishedDraws:
    """The published sampler's two generators in the place of one of NumPy's."""

    def __init__(self, seed: int, order: np.ndarray):
        self._first, self._others = random.Random(seed), np.random.RandomState(seed)
        self._order = order

    def permutation(self, count: int) -> np.ndarray:
        """The recorded order of clusters."""
        del count
        return self._order

    def choice(self, images: np.ndarray, size: int | None = None, replace: bool = True):
        """A first image of a cluster, or the others."""
        if size is None:
            return self._first.choice(images)
        return self._others.choice(images, size, replace)


class _RecordedDraws:
    """Passes that were drawn before, to see how they are cut into batches."""

    def __init__(self, passes: list[np.ndarray], labels: np.ndarray):
        self._passes, self._labels = iter(passes), labels
        self._images: Iterator[int] = iter(())

    def permutation(self, count: int) -> np.ndarray:
        """The order of clusters in the next pass."""
        images = next(self._passes)
        self._images = iter(images.tolist())
        _, first = np.unique(self._labels[images], return_index=True)
        order = self._labels[images][np.sort(first)]
        assert len(order) == count
        return order

    def choice(self, images: np.ndarray, size: int | None = None, replace: bool = True):
        """The next images of the pass."""
        del images, replace
        if size is None:
            return next(self._images)
        return np.array([next(self._images) for _ in range(size)])


CHECKS = {
    "model": check_model,
    "memory": check_memory,
    "epoch": check_epoch,
    "sampler": check_sampler,
    "schedule": check_schedule,
    "evaluation": check_evaluation,
    "augmentation": augmentation.check,
    "train_steps": check_train_steps,
    "train_steps_split": check_train_steps,
}
