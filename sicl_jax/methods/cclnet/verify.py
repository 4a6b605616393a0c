"""CCLNet's golden files, recomputed; `docs/methods/cclnet.md` describes the method."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sicl_jax import config as configs
from sicl_jax.data.samplers import draw_cross_modality
from sicl_jax.evaluation import FeatureSet, evaluate_dataset
from sicl_jax.evaluation.evaluate import drawn_gallery
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.protocols import Draw
from sicl_jax.evaluation.ranking import Ranking
from sicl_jax.losses import cluster_contrast
from sicl_jax.memory import update_cluster_memory
from sicl_jax.methods.cclnet import losses, prompts, verify_training
from sicl_jax.methods.cclnet import weights as published
from sicl_jax.methods.cclnet.method import CclNet
from sicl_jax.methods.cclnet.model import CrossModalModel
from sicl_jax.methods.cclnet.verify_network import (
    GRADIENT,
    OUTPUT,
    PAIR,
    SCHEDULE,
    images_of,
    method_of,
    model_of,
    summaries,
)
from sicl_jax.methods.state import Clock
from sicl_jax.models.layers import Frozen, l2_normalize
from sicl_jax.verify import Check, Golden, networks
from sicl_jax.verify.checks import relative_error
from sicl_jax.verify.files import Arrays
from sicl_jax.weights import clip as clip_weights
from sicl_jax.weights import torch_names
from sicl_jax.weights.torch_files import save_state_dict


def _rows(names, table: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(map(str, names), table, strict=True))


# ---- model.npz -------------------------------------------------------------------------------

_TRAINING = {
    **dict.fromkeys(("train_features", "train_projections", "after:*", "probe_loss"), OUTPUT),
    **dict.fromkeys(("grad:*", "gradient_stats"), GRADIENT),
}


def check_model(golden: Golden) -> Iterator[Check]:
    """Both modes, the texts, the gradients of a probe, and what is loaded from CLIP's archive."""
    method = method_of(golden, golden)
    yield from _check_sizes(golden, method)
    yield from _check_loading(golden, method)
    model = model_of(golden, method)
    for name, found in _evaluate(model, *(images_of(golden, m) for m in PAIR)).items():
        yield golden.check(name, found, OUTPUT)
    yield from golden.check_controlled(Probe(golden, method), _TRAINING, direct=_TRAINING)


def _check_sizes(golden: Golden, method: CclNet) -> Iterator[Check]:
    shape, model = method._shape, method.abstract_model()
    found = {
        "stage_sizes": shape.stage_sizes,
        "width": shape.width,
        "embed_dim": shape.embed_dim,
        "text_width": shape.text_width,
        "text_layers": shape.text_layers,
        "vision_heads": model.attention_pool.heads,
        "text_heads": model.text.blocks[0].heads,
        "classes": [method.sizes["visible_classes"], method.sizes["infrared_classes"]],
    }
    for name, value in found.items():
        yield golden.check(name, value, 0.0)
    # The authors set requires_grad on text weights too, which no optimiser of theirs takes.
    trained = _rows(golden["parameter_names"], golden.expected("parameter_is_trainable"))
    faults = [
        name
        for name, entry in published.names(model).items()
        if not name.startswith("text_encoder.")
        and trained[name] != isinstance(getattr(entry, "variable", entry), nnx.Param)
    ]
    yield golden.verdict("parameter_is_trainable", len(faults), 0.0)


def _check_loading(golden: Golden, method: CclNet) -> Iterator[Check]:
    """A file of CLIP's made of the given parts, through the loader of such files."""
    for modality, sentence in zip(PAIR, (prompts.VISIBLE, prompts.INFRARED), strict=True):
        ids, _ = prompts.token_ids(sentence, "", method.config.model.context)
        yield golden.check(f"token_ids_{modality}", ids, 0.0)
    model = model_of(golden, method)
    names = {
        **clip_weights.stem("visual", model.visible),
        **clip_weights.residual_layers("visual", model.layers),
        **clip_weights.attention_pool("visual", model.attention_pool),
        **clip_weights.text("", model.text),
    }
    archive = torch_names.collect(names)
    archive["visual.attnpool.positional_embedding"] = golden["archive_positional_embedding"]
    used, rows = golden["used_token_ids"], golden["used_token_embedding"]
    tokens = np.zeros((int(used.max()) + 1, rows.shape[1]), rows.dtype)
    tokens[used] = rows
    archive["token_embedding.weight"] = tokens
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "clip.pt"
        save_state_dict(path, archive)
        method.load_pretrained(model, str(path))
    loaded = torch_names.collect(published.names(model))
    found = loaded["base_resnet.base.attnpool.positional_embedding"]
    yield golden.check("resized_positional_embedding", found, OUTPUT)
    for modality in PAIR:
        for part in ("prefix", "suffix"):
            expected = golden.expected(f"archive_{part}_{modality}")
            found = loaded[f"prompt_learner.token_{part}_{modality}"][0, : len(expected)]
            yield golden.check(f"archive_{part}_{modality}", found, 0.0)


def _evaluate(model: CrossModalModel, *images: jax.Array) -> dict[str, jax.Array]:
    graph, state = nnx.split(model)
    is_infrared = np.repeat([False, True], [len(part) for part in images])

    @jax.jit
    def evaluate(state, images):
        model, both = nnx.merge(graph, state), jnp.concatenate(images)
        stems = {"rgb": model.visible, "ir": model.infrared}
        embeddings, projections = model.embed(both, is_infrared), model.project(both, is_infrared)
        found = {"eval_both": embeddings, "eval_map_rgb": model.maps(images[0], is_infrared[:1])}
        for modality, part, rows in zip(PAIR, images, (~is_infrared, is_infrared), strict=True):
            found[f"eval_stem_{modality}"] = stems[modality](part, train=False)
            found[f"eval_embedding_{modality}"] = embeddings[np.flatnonzero(rows)]
            found[f"eval_projection_{modality}"] = projections[np.flatnonzero(rows)]
        for modality, part in _prompts(model).items():
            found[f"text_{modality}"] = model.describe(part, jnp.arange(len(part.learned[...])))
        return found

    found = evaluate(state, images)
    return {n: a.transpose(0, 3, 1, 2) if a.ndim == 4 else a for n, a in found.items()}


def _prompts(model: CrossModalModel) -> dict[str, nnx.Module]:
    return {"rgb": model.visible_prompts, "ir": model.infrared_prompts}


class Probe:
    """One pass in training mode and the gradients of the probe's loss.

    Args:
        golden: The file, for the sizes of the network.
        method: Of these sizes.
    """

    def __init__(self, golden: Golden, method: CclNet):
        def objective(model, images, labels, probes):
            encoding = model(jnp.concatenate(images), len(images[0]), train=True)
            texts = sum(
                model.describe(part, of)
                for part, of in zip(_prompts(model).values(), labels, strict=True)
            )
            outputs = (encoding.feature, encoding.projection, texts)
            return sum(jnp.sum(a * b) for a, b in zip(outputs, probes, strict=True)), outputs

        self._method = method
        self._pass = networks.Pass(
            model_of(golden, method), published.names, objective, weights=(nnx.Param, Frozen)
        )

    def __call__(self, golden: Golden) -> Arrays:
        """Outputs, the loss, its gradients, and running statistics after the pass."""
        found = self._pass(
            model_of(golden, self._method),
            [images_of(golden, modality) for modality in PAIR],
            [golden[f"text_labels_{modality}"] for modality in PAIR],
            [golden[f"probe_{name}"] for name in ("features", "projections", "text")],
            flips=golden.flips,
        )
        of_all = summaries(found.gradients, golden["gradient_names"])
        return {
            "train_features": found.outputs[0],
            "train_projections": found.outputs[1],
            "probe_loss": found.value,
            "grad:*": {name: found.gradients[name] for name in golden.with_prefix("grad:")},
            "gradient_stats": np.stack(list(of_all.values())),
            "after:*": {name: found.after[name] for name in golden.with_prefix("after:")},
        }


# ---- losses.npz ------------------------------------------------------------------------------


def check_losses(golden: Golden) -> Iterator[Check]:
    """The contrast of images and texts, the text loss, the memories with and without exchange."""
    image, labels = golden["supcon_image"], golden["supcon_labels"]

    def both(text):
        values = losses.contrast(image, text, labels), losses.contrast(text, image, labels)
        return sum(values), values

    (_, values), gradient = jax.jit(jax.value_and_grad(both, has_aux=True))(golden["supcon_text"])
    for name, value in zip(("image_to_text", "text_to_image"), values, strict=True):
        yield golden.check(f"supcon_{name}", value, OUTPUT)
    yield golden.check("supcon_grad_text", gradient, GRADIENT)

    texts, labels = golden["text_loss_text"], golden["text_loss_labels"]
    projections = golden["text_loss_projections"]
    text_loss = jax.jit(jax.value_and_grad(losses.text_loss))
    value, gradient = text_loss(projections, texts, labels)
    yield golden.check("text_loss", value, OUTPUT)
    yield golden.check("text_loss_grad", gradient, GRADIENT)
    value, gradient = text_loss(projections, texts, np.full_like(labels, -1))
    yield golden.check("text_loss_all_unlabelled", value[None], 0.0)
    yield golden.verdict("text_loss_all_unlabelled: no gradient", np.abs(gradient).max(), 0.0)
    yield from _check_memories(golden)


def _check_memories(golden: Golden) -> Iterator[Check]:
    temperature, momentum = float(golden["temperature"]), float(golden["momentum"])
    moved, targets, counts = [], [], []
    for modality in PAIR:
        rows, labels = golden[f"memory_{modality}"], golden[f"memory_targets_{modality}"]
        inputs, members = golden[f"memory_inputs_{modality}"], np.ones(len(rows))

        def loss(inputs, rows=rows, members=members, labels=labels):
            return cluster_contrast(l2_normalize(inputs), rows, members, labels, temperature)

        value, gradient = jax.jit(jax.value_and_grad(loss))(inputs)
        yield golden.check(f"memory_loss_{modality}", value, OUTPUT)
        yield golden.check(f"memory_grad_{modality}", gradient, GRADIENT)
        features = l2_normalize(jnp.asarray(inputs))
        moved.append(update_cluster_memory(jnp.asarray(rows), labels, features, momentum))
        yield golden.check(f"memory_{modality}_after_plain", moved[-1], OUTPUT)
        targets.append(jnp.asarray(labels))
        counts.append(members)

    # Padded by a row each, as in training.
    padded = [jnp.pad(rows, ((0, 1), (0, 0))) for rows in moved]
    partners = jax.jit(losses.matched)(*padded, tuple(np.append(c, 0.0) for c in counts))
    similarity = np.asarray(moved[0] @ moved[1].T)
    yield from _check_matching(golden, np.asarray(partners)[:-1], similarity)
    for name, compat in (("matched", "released"), ("swapped", "paper")):
        scale = float(golden["change_scale"])
        found = losses.exchange(*padded, partners, tuple(targets), scale, compat=compat)
        for modality, rows in zip(PAIR, found, strict=True):
            yield golden.check(f"memory_{modality}_after_{name}", rows[:-1], OUTPUT)


def _check_matching(golden: Golden, partners: np.ndarray, similarity: np.ndarray):
    """The file lists opposed pairs too, which `match` leaves alone."""
    theirs = golden.expected("match_similarity")
    pairs = [golden.expected(f"match_{modality}") for modality in PAIR]
    yield golden.check("match_similarity", similarity[pairs[0], pairs[1]], OUTPUT)
    expected = np.full(len(partners), -1)
    expected[pairs[0]] = np.where(theirs >= 0, pairs[1], -1)
    yield golden.verdict("match_rgb, match_ir", np.count_nonzero(partners != expected), 0.0)


# ---- schedule.npz, sampler.npz ---------------------------------------------------------------


# Where our config has what the published one calls so; both stages of clusters share theirs.
SETTINGS = {
    "prompts.epochs": "stage1_maxepochs",
    "prompts.learning_rate": "stage1_baselr",
    "prompts.weight_decay": "stage1_weight_decay",
    "prompts.least_rate": "stage1_lrmin",
    "prompts.warmup_rate": "stage1_warmup_lrinit",
    "prompts.warmup_epochs": "stage1_warmup_epoch",
    "epochs": "stage2_maxepochs",
    "optimizer.learning_rate": "stage2_baselr",
    "optimizer.weight_decay": "stage2_weight_decay",
    "schedule.milestones": "stage2_steps",
    "schedule.gamma": "stage2_gamma",
    "schedule.warmup_factor": "stage2_warmup_factor",
    "schedule.warmup_epochs": "stage2_warmup_iters",
}


def check_schedule(golden: Golden) -> Iterator[Check]:
    """Rates by the file's settings, as the optimisers of the stages take them."""
    config = configs.base("cclnet")
    config.model.update({"width": 2, "embed_dim": 1, "text_width": 64, "text_layers": 1})
    config.model.stage_sizes = _stage_sizes(golden["stage2_parameters"])
    config.data.image_size = (32, 16)
    for field, name in SETTINGS.items():
        value = golden.expected(f"config:{name}").tolist()
        value = tuple(value) if isinstance(value, list) else value
        config.update_from_flattened_dict({field: value})
    method = CclNet(config)
    model = method.abstract_model()
    names = published.names(model)
    theirs = [str(name) for name in golden["stage1_parameters"]]
    rates = _rates(method, 1, len(golden.expected("stage1_learning_rate")))
    trained = {name: rate for name, rate in rates.items() if rate.any()}
    yield golden.verdict("stage1_parameters", len(set(theirs) ^ trained.keys()), 0.0)
    expected = golden.expected("stage1_learning_rate")
    error = max(relative_error(rate, expected) for rate in trained.values())
    yield golden.verdict("stage1_learning_rate", error, SCHEDULE)
    decay = [config.prompts.weight_decay] * len(theirs)
    yield golden.check("stage1_weight_decay", decay, SCHEDULE)

    theirs = [str(name) for name in golden["stage2_parameters"]]
    rates = _rates(method, 2, len(golden.expected("stage2_learning_rate")))
    trained = {name: rate for name, rate in rates.items() if rate.any()}
    # Copies that no gradient reaches are in their optimiser and do not move.
    others = [name for name in theirs if name in names and name not in trained]
    faults = len(others) + len(trained.keys() - set(theirs))
    yield golden.verdict("stage2_parameters", faults, 0.0)
    for quantity, is_bias in (("stage2_learning_rate", False), ("stage2_learning_rate_bias", True)):
        expected = golden.expected(quantity)
        found = [rate for name, rate in trained.items() if ("bias" in name) == is_bias]
        error = max(relative_error(rate, expected) for rate in found)
        yield golden.verdict(quantity, error, SCHEDULE)
    base = [config.optimizer.learning_rate * (2 if "bias" in name else 1) for name in theirs]
    yield golden.check("stage2_base_learning_rate", base, SCHEDULE)
    decay = [config.optimizer.weight_decay] * len(theirs)
    yield golden.check("stage2_weight_decay", decay, SCHEDULE)


def _stage_sizes(names) -> tuple[int, ...]:
    layers = [[str(n).split(".")[2:4] for n in names if f".layer{i}." in n] for i in range(1, 5)]
    return tuple(len({index for _, index in layer}) for layer in layers)


def _rates(method: CclNet, stage: int, epochs: int) -> dict[str, np.ndarray]:
    """What every parameter moves by in an epoch's first step, if its gradient is 1: the rate.

    In float64, where Adam's first step is the rate to ten digits.
    """
    with jax.enable_x64(True):
        graph, params, rest = nnx.split(method.abstract_model(), nnx.Param, ...)
        params, rest = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), (params, rest))
        optimizer, start = method.stages[stage].optimizer, Clock.at(0, stage=stage)
        ones = jax.tree.map(jnp.ones_like, params)

        @jax.jit
        def move(epoch):
            clock = dataclasses.replace(start, epoch=epoch)
            updates, _ = optimizer.update(ones, optimizer.init(params), params, clock=clock)
            return updates

        moves = [move(jnp.asarray(epoch, jnp.int32)) for epoch in range(epochs)]
        moves = [jax.tree.map(lambda leaf: leaf.ravel()[0], each) for each in jax.device_get(moves)]
        stacked = jax.tree.map(lambda *leaves: -np.stack(leaves), *moves)
    model = nnx.merge(graph, stacked, rest)
    entries = ((n, getattr(e, "variable", e)) for n, e in published.names(model).items())
    return {n: np.asarray(v.get_value()) for n, v in entries if isinstance(v, nnx.Param)}


def check_sampler(golden: Golden) -> Iterator[Check]:
    """The batches of an epoch by the published generator, exactly."""
    labels = [golden[f"labels_{modality}"] for modality in PAIR]
    clusters, instances = int(golden["batch_size"]), int(golden["num_instances"])
    batches = draw_cross_modality(
        np.concatenate(labels),
        np.repeat([False, True], [len(part) for part in labels]),
        num_clusters=clusters,
        num_instances=instances,
        rng=np.random.RandomState(int(golden["seed"])),
    )
    visible, infrared = np.split(batches, 2, axis=1)
    yield golden.check("batches_rgb", visible, 0.0)
    yield golden.check("batches_ir", infrared - len(labels[0]), 0.0)
    # The published loader forgets the step that what is left over makes.
    yield golden.check("announced_steps", len(batches) - 1, 0.0)


# ---- evaluation.npz --------------------------------------------------------------------------


def check_evaluation(golden: Golden) -> Iterator[Check]:
    """SYSU-MM01's searches with their drawn galleries, and RegDB's test."""
    files = golden["files"]
    parts = [str(name).split("/")[:2] for name in files]
    camera = np.array([int(name.removeprefix("cam")) for name, _ in parts])
    identity = np.array([int(person) for _, person in parts])
    labels = {"identity": identity, "camera": camera}
    images = FeatureSet(golden["features"], labels, similarity="dot")
    tested, infrared = np.isin(identity, golden["test_ids"]), np.isin(camera, (3, 6))
    rows = {
        "query": np.flatnonzero(tested & infrared),
        "gallery": np.flatnonzero(tested & ~infrared),
    }
    # A data set's images are in the order of their files' names, and draws follow it.
    rows = {name: chosen[np.argsort(files[chosen])] for name, chosen in rows.items()}
    splits = {name: images.take(chosen) for name, chosen in rows.items()}
    for mode, cameras in (("all", (1, 2, 4, 5)), ("indoor", (1, 2))):
        unlike = len(set(rows["query"].tolist()) ^ set(golden[f"{mode}_query"].tolist()))
        yield golden.verdict(f"{mode}_query", unlike, 0.0)
        seen = rows["gallery"][np.isin(camera[rows["gallery"]], cameras)]
        named = dataclasses.replace(images.take(seen), names=[str(row) for row in seen])
        draw = Draw(("identity", "camera"), released=True)
        unlike = 0
        for trial, theirs in enumerate(golden[f"{mode}_gallery"]):
            drawn_names = drawn_gallery(named, draw, seed=0, trial=trial).names
            unlike += len({int(name) for name in drawn_names} ^ set(theirs.tolist()))
        yield golden.verdict(f"{mode}_gallery", unlike, 0.0)
        protocol = f"{mode}_search/single_shot"
        result = evaluate_dataset("sysu_mm01", splits, only=[protocol])[protocol]
        ranks = golden.expected(f"{mode}_cmc").shape[1]
        trials = [summarize(ranking) for ranking in result.rankings]
        curves = np.stack([_cmc(ranking, ranks) for ranking in result.rankings])
        found = {"cmc": curves, "mean_cmc": curves.mean(axis=0)}
        for name, figure in (("map", "mAP"), ("minp", "mINP")):
            found[name] = [getattr(trial, figure) for trial in trials]
            found[f"mean_{name}"] = getattr(result, figure)
        found["queries_without_match"] = trials[-1].skipped
        for name, value in found.items():
            yield golden.check(f"{mode}_{name}", value, OUTPUT)
    splits = {name: images.take(golden[f"regdb_{name}"]) for name in ("query", "gallery")}
    name = "visible_to_infrared"
    result = evaluate_dataset("regdb", splits, only=[name])[name]
    ranks = len(golden.expected("regdb_cmc"))
    yield golden.check("regdb_cmc", _cmc(result.rankings[0], ranks), OUTPUT)
    yield golden.check("regdb_map", result.mAP, OUTPUT)
    yield golden.check("regdb_minp", result.mINP, OUTPUT)


def _cmc(ranking: Ranking, ranks: int) -> np.ndarray:
    """The curve up to a rank, which the result's own may not reach."""
    first = ranking.first_match[ranking.first_match > 0]
    return np.mean(first[:, None] <= 1 + np.arange(ranks), axis=0)


CHECKS = {
    "model": check_model,
    "losses": check_losses,
    "schedule": check_schedule,
    "sampler": check_sampler,
    "stage0": verify_training.check_stage0,
    "stage1": verify_training.check_stage1,
    "stage2": verify_training.check_stage2,
    "evaluation": check_evaluation,
}
