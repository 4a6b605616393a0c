"""CSSC's golden files, recomputed; `docs/methods/cssc.md` describes what is in them."""

import random
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from sicl_jax import config as configs
from sicl_jax import optimizers
from sicl_jax.data import augment, samplers
from sicl_jax.evaluation import FeatureSet, distances, rules
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.ranking import rank
from sicl_jax.losses import cross_entropy, hard_triplet, pairwise_distances
from sicl_jax.methods.cssc.verify_network import check_model
from sicl_jax.methods.cssc.verify_training import check_train_steps
from sicl_jax.models.layers import l2_normalize
from sicl_jax.verify import Check, Golden
from sicl_jax.verify.samplers import identity_faults

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
