"""CCLNet's golden files, recomputed; `docs/methods/cclnet.md` describes the method."""

import dataclasses
import pathlib
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from sicl_jax import clustering, devices
from sicl_jax import config as configs
from sicl_jax.data.augment import normalize
from sicl_jax.data.samplers import draw_cross_modality
from sicl_jax.evaluation import FeatureSet, evaluate_dataset
from sicl_jax.evaluation.evaluate import drawn_gallery
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.protocols import Draw
from sicl_jax.evaluation.ranking import Ranking
from sicl_jax.losses import cluster_contrast
from sicl_jax.memory import update_cluster_memory
from sicl_jax.methods.base import Clock, TrainState, Weights
from sicl_jax.methods.cclnet import losses, prompts
from sicl_jax.methods.cclnet import weights as published
from sicl_jax.methods.cclnet.method import MODALITIES, CclNet, Described, PromptMemory
from sicl_jax.methods.cclnet.model import CrossModalModel
from sicl_jax.methods.embedder import Embedder
from sicl_jax.models.layers import Frozen, l2_normalize
from sicl_jax.verify import Check, Golden
from sicl_jax.verify.checks import group_error, norm_error, relative_error
from sicl_jax.verify.files import Arrays
from sicl_jax.weights import clip as clip_weights
from sicl_jax.weights import torch_names
from sicl_jax.weights.torch_files import save_state_dict

_OUTPUT, _GRADIENT, _LATER, _CHANGE, _SCHEDULE = 1e-4, 1e-3, 5e-3, 5e-2, 1e-6
# Arrays smaller than this share of the largest are measured as if they were as large as that.
_FLOOR = 1e-2
_PAIR = ("rgb", "ir")
_ROUNDING_ALONE = "attnpool.k_proj.bias"  # Its gradient is 0 but for rounding, which Adam scales.


# ---- a file's network ------------------------------------------------------------------------


def drawn(golden: Golden) -> dict[str, np.ndarray]:
    """The initial arrays of a file by the authors' names: drawn by name, or as the file has them.

    The draws' rules are those of the golden files' README.
    """
    given, arrays = golden.with_prefix("initial:"), {}
    shapes = zip(golden["parameter_names"], golden["parameter_shapes"], strict=True)
    for name, shape in ((str(name), tuple(s for s in shape if s)) for name, shape in shapes):
        arrays[name] = given.get(name, golden.as_input(name, _draw(name, shape)))
    return arrays


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name == "bottleneck.bias":
        array = np.zeros(shape)
    elif "running_var" in name:
        array = rng.uniform(0.5, 1.5, shape)
    elif "running_mean" in name:
        array = rng.normal(0, 0.1, shape)
    elif len(shape) == 4:
        array = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif len(shape) == 3:
        array = rng.normal(0, 0.1, shape)
    elif len(shape) == 2:
        scale = 0.3 if name.endswith(("c_proj.weight", "text_projection")) else 1.0
        array = rng.normal(0, scale / np.sqrt(shape[-1]), shape)
    elif name.endswith(("bn3.weight", "downsample.1.weight")):
        array = rng.uniform(0.25, 0.75, shape)
    elif name.endswith("weight"):
        array = rng.uniform(0.5, 1.5, shape)
    else:
        array = rng.normal(0, 0.1, shape)
    return array.astype(np.float32)


def method_of(golden: Golden, images: Golden, **groups: Mapping[str, Any] | Any) -> CclNet:
    """The method for a file's network.

    Args:
        golden: The file.
        images: The file that has its images.
        **groups: Fields of the config, or groups of them.
    """
    config = configs.base("cclnet")
    fields = published.recognize(drawn(golden))
    if fields is None:
        raise ValueError("parameter_names are not those of CCLNet")
    sizes = fields.pop("sizes")
    fields["data.image_size"] = images["images_rgb"].shape[1:3]
    config.update_from_flattened_dict(fields)
    config.update({"model": {"dtype": "float32"}, **groups})
    return CclNet(config, sizes)


def model_of(golden: Golden, method: CclNet) -> CrossModalModel:
    """The network, filled."""
    model = method.abstract_model()
    published.assign(model, drawn(golden), golden.file)
    return model


def _images(golden: Golden, modality: str, rows: np.ndarray | slice = slice(None)) -> jax.Array:
    return normalize(jnp.asarray(golden[f"images_{modality}"][rows]))


def _summaries(arrays: Mapping[str, np.ndarray], names) -> dict[str, np.ndarray]:
    """Mean, deviation and norm of the arrays of these names."""
    wide = {str(name): np.asarray(arrays[str(name)], np.float64) for name in names}
    return {n: np.array([a.mean(), a.std(), np.linalg.norm(a)]) for n, a in wide.items()}


def _rows(names, table: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(map(str, names), table, strict=True))


# ---- model.npz -------------------------------------------------------------------------------

_TRAINING = {
    **dict.fromkeys(("train_features", "train_projections", "after:*", "probe_loss"), _OUTPUT),
    **dict.fromkeys(("grad:*", "gradient_stats"), _GRADIENT),
}


def check_model(golden: Golden) -> Iterator[Check]:
    """Both modes, the texts, the gradients of a probe, and what is loaded from CLIP's archive."""
    method = method_of(golden, golden)
    yield from _check_sizes(golden, method)
    yield from _check_loading(golden, method)
    model = model_of(golden, method)
    for name, found in _evaluate(model, *(_images(golden, m) for m in _PAIR)).items():
        yield golden.check(name, found, _OUTPUT)
    yield from golden.check_controlled(Probe(golden, method), _TRAINING, errors=_errors)


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
    for modality, sentence in zip(_PAIR, (prompts.VISIBLE, prompts.INFRARED), strict=True):
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
    yield golden.check("resized_positional_embedding", found, _OUTPUT)
    for modality in _PAIR:
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
        for modality, part, rows in zip(_PAIR, images, (~is_infrared, is_infrared), strict=True):
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


def _errors(actual: Arrays, expected: Arrays) -> dict[str, float]:
    """Errors by quantity; rows of statistics are arrays of their own, measured by their norms."""
    errors = {}
    for name, array in expected.items():
        if name.endswith("_stats"):
            ours, array = dict(enumerate(actual[name])), dict(enumerate(array))
            errors[name] = group_error(ours, array, floor=_FLOOR)
        elif isinstance(array, Mapping):
            errors[name] = group_error(actual[name], array, floor=_FLOOR)
        else:
            errors[name] = relative_error(actual[name], array)
    return errors


class Probe:
    """One pass in training mode and the gradients of the probe's loss.

    Args:
        golden: The file, for the sizes of the network.
        method: Of these sizes.
    """

    def __init__(self, golden: Golden, method: CclNet):
        self._method = method
        self._graph = nnx.graphdef(model_of(golden, method))

        @jax.jit
        def gradient(trained, rest, images, labels, probes):
            def loss(trained):
                model = nnx.merge(self._graph, trained, rest, copy=True)
                encoding = model(jnp.concatenate(images), len(images[0]), train=True)
                texts = sum(
                    model.describe(part, of)
                    for part, of in zip(_prompts(model).values(), labels, strict=True)
                )
                outputs = (encoding.feature, encoding.projection, texts)
                value = sum(jnp.sum(a * b) for a, b in zip(outputs, probes, strict=True))
                return value, (outputs[:2], nnx.state(model, nnx.BatchStat))

            return jax.value_and_grad(loss, has_aux=True)(trained)

        self._gradient = gradient

    def __call__(self, golden: Golden) -> Arrays:
        """Outputs, the loss, its gradients, and running statistics after the pass."""
        model = model_of(golden, self._method)
        _, trained, rest = nnx.split(model, (nnx.Param, Frozen), ...)
        (value, (outputs, statistics)), gradients = self._gradient(
            trained,
            rest,
            [_images(golden, modality) for modality in _PAIR],
            [golden[f"text_labels_{modality}"] for modality in _PAIR],
            [golden[f"probe_{name}"] for name in ("features", "projections", "text")],
        )
        gradients = torch_names.collect(
            published.names(nnx.merge(self._graph, gradients, rest, copy=True))
        )
        nnx.update(model, statistics)
        after = torch_names.collect(published.names(model))
        names = golden["gradient_names"]
        return {
            "train_features": outputs[0],
            "train_projections": outputs[1],
            "probe_loss": value,
            "grad:*": {name: gradients[name] for name in golden.with_prefix("grad:")},
            "gradient_stats": np.stack(list(_summaries(gradients, names).values())),
            "after:*": {name: after[name] for name in golden.with_prefix("after:")},
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
        yield golden.check(f"supcon_{name}", value, _OUTPUT)
    yield golden.check("supcon_grad_text", gradient, _GRADIENT)

    texts, labels = golden["text_loss_text"], golden["text_loss_labels"]
    projections = golden["text_loss_projections"]
    text_loss = jax.jit(jax.value_and_grad(losses.text_loss))
    value, gradient = text_loss(projections, texts, labels)
    yield golden.check("text_loss", value, _OUTPUT)
    yield golden.check("text_loss_grad", gradient, _GRADIENT)
    value, gradient = text_loss(projections, texts, np.full_like(labels, -1))
    yield golden.check("text_loss_all_unlabelled", value[None], 0.0)
    yield golden.verdict("text_loss_all_unlabelled: no gradient", np.abs(gradient).max(), 0.0)
    yield from _check_memories(golden)


def _check_memories(golden: Golden) -> Iterator[Check]:
    temperature, momentum = float(golden["temperature"]), float(golden["momentum"])
    moved, targets, counts = [], [], []
    for modality in _PAIR:
        rows, labels = golden[f"memory_{modality}"], golden[f"memory_targets_{modality}"]
        inputs, members = golden[f"memory_inputs_{modality}"], np.ones(len(rows))

        def loss(inputs, rows=rows, members=members, labels=labels):
            return cluster_contrast(l2_normalize(inputs), rows, members, labels, temperature)

        value, gradient = jax.jit(jax.value_and_grad(loss))(inputs)
        yield golden.check(f"memory_loss_{modality}", value, _OUTPUT)
        yield golden.check(f"memory_grad_{modality}", gradient, _GRADIENT)
        features = l2_normalize(jnp.asarray(inputs))
        moved.append(update_cluster_memory(jnp.asarray(rows), labels, features, momentum))
        yield golden.check(f"memory_{modality}_after_plain", moved[-1], _OUTPUT)
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
        for modality, rows in zip(_PAIR, found, strict=True):
            yield golden.check(f"memory_{modality}_after_{name}", rows[:-1], _OUTPUT)


def _check_matching(golden: Golden, partners: np.ndarray, similarity: np.ndarray):
    """The file lists opposed pairs too, which `match` leaves alone."""
    theirs = golden.expected("match_similarity")
    pairs = [golden.expected(f"match_{modality}") for modality in _PAIR]
    yield golden.check("match_similarity", similarity[pairs[0], pairs[1]], _OUTPUT)
    expected = np.full(len(partners), -1)
    expected[pairs[0]] = np.where(theirs >= 0, pairs[1], -1)
    yield golden.verdict("match_rgb, match_ir", np.count_nonzero(partners != expected), 0.0)


# ---- schedule.npz, sampler.npz ---------------------------------------------------------------


def check_schedule(golden: Golden) -> Iterator[Check]:
    """Rates, as the optimisers of the stages take them, and settings, as our config has them."""
    config = configs.base("cclnet")
    config.model.update({"width": 2, "embed_dim": 1, "text_width": 64, "text_layers": 1})
    config.model.stage_sizes = _stage_sizes(golden["stage2_parameters"])
    config.data.image_size = (32, 16)
    for name, value in _settings(config).items():
        yield golden.check(f"config:{name}", value, _SCHEDULE)
    method = CclNet(config)
    model = method.abstract_model()
    names = published.names(model)
    theirs = [str(name) for name in golden["stage1_parameters"]]
    rates = _rates(method, 1, len(golden.expected("stage1_learning_rate")))
    trained = {name: rate for name, rate in rates.items() if rate.any()}
    yield golden.verdict("stage1_parameters", len(set(theirs) ^ trained.keys()), 0.0)
    expected = golden.expected("stage1_learning_rate")
    error = max(relative_error(rate, expected) for rate in trained.values())
    yield golden.verdict("stage1_learning_rate", error, _SCHEDULE)
    decay = [config.prompts.weight_decay] * len(theirs)
    yield golden.check("stage1_weight_decay", decay, _SCHEDULE)

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
        yield golden.verdict(quantity, error, _SCHEDULE)
    base = [config.optimizer.learning_rate * (2 if "bias" in name else 1) for name in theirs]
    yield golden.check("stage2_base_learning_rate", base, _SCHEDULE)
    decay = [config.optimizer.weight_decay] * len(theirs)
    yield golden.check("stage2_weight_decay", decay, _SCHEDULE)


def _stage_sizes(names) -> tuple[int, ...]:
    layers = [[str(n).split(".")[2:4] for n in names if f".layer{i}." in n] for i in range(1, 5)]
    return tuple(len({index for _, index in layer}) for layer in layers)


def _settings(config) -> dict[str, float]:
    """Our fields by the names of the published settings; both stages of clusters share theirs."""
    options, schedule, optimizer = config.prompts, config.schedule, config.optimizer
    return {
        "stage1_maxepochs": options.epochs,
        "stage1_baselr": options.learning_rate,
        "stage1_weight_decay": options.weight_decay,
        "stage1_lrmin": options.least_rate,
        "stage1_warmup_lrinit": options.warmup_rate,
        "stage1_warmup_epoch": options.warmup_epochs,
        "stage2_maxepochs": config.epochs,
        "stage2_baselr": optimizer.learning_rate,
        "stage2_weight_decay": optimizer.weight_decay,
        "stage2_weight_decay_bias": optimizer.weight_decay,
        "stage2_steps": schedule.milestones,
        "stage2_gamma": schedule.gamma,
        "stage2_warmup_factor": schedule.warmup_factor,
        "stage2_warmup_iters": schedule.warmup_epochs,
    }


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
    labels = [golden[f"labels_{modality}"] for modality in _PAIR]
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
    parts = [str(name).split("/")[:2] for name in golden["files"]]
    camera = np.array([int(name.removeprefix("cam")) for name, _ in parts])
    identity = np.array([int(person) for _, person in parts])
    labels = {"identity": identity, "camera": camera}
    images = FeatureSet(golden["features"], labels, similarity="dot")
    tested, infrared = np.isin(identity, golden["test_ids"]), np.isin(camera, (3, 6))
    rows = {
        "query": np.flatnonzero(tested & infrared),
        "gallery": np.flatnonzero(tested & ~infrared),
    }
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
            yield golden.check(f"{mode}_{name}", value, _OUTPUT)
    splits = {name: images.take(golden[f"regdb_{name}"]) for name in ("query", "gallery")}
    name = "visible_to_infrared"
    result = evaluate_dataset("regdb", splits, only=[name])[name]
    ranks = len(golden.expected("regdb_cmc"))
    yield golden.check("regdb_cmc", _cmc(result.rankings[0], ranks), _OUTPUT)
    yield golden.check("regdb_map", result.mAP, _OUTPUT)
    yield golden.check("regdb_minp", result.mINP, _OUTPUT)


def _cmc(ranking: Ranking, ranks: int) -> np.ndarray:
    """The curve up to a rank, which the result's own may not reach."""
    first = ranking.first_match[ranking.first_match > 0]
    return np.mean(first[:, None] <= 1 + np.arange(ranks), axis=0)


# ---- stage1.npz ------------------------------------------------------------------------------


def _constant_rate(golden: Golden) -> dict[str, Any]:
    rate = float(golden["learning_rate"])
    return {
        "optimizer": {"learning_rate": rate, "weight_decay": float(golden["weight_decay"])},
        "schedule": {"name": "constant", "warmup_epochs": 0},
        "prompts": {
            "learning_rate": rate,
            "least_rate": rate,
            "warmup_epochs": 0,
            "weight_decay": float(golden["weight_decay"]),
        },
    }


def _placed(labels: list[np.ndarray]) -> tuple[jax.Array, jax.Array]:
    """Labels of visible and infrared images as the memories have them; the first infrared one."""
    first = int(labels[0].max()) + 1
    infrared = np.where(labels[1] < 0, -1, labels[1] + first)
    return jnp.asarray(np.concatenate([labels[0], infrared]), jnp.int32), jnp.int32(first)


_FINALS = {"final:*": _LATER, "final:* less the drawn (norm)": _CHANGE}
_STAGE1 = {
    "losses of the first step": _OUTPUT,
    "losses": _LATER,
    "learning_rate": _SCHEDULE,
    "grad:*": _GRADIENT,
    **_FINALS,
    **dict.fromkeys(("final_text_rgb", "final_text_ir"), _LATER),
}


def check_stage1(golden: Golden) -> Iterator[Check]:
    """Three steps of the prompts, the last batch a smaller one."""
    method = method_of(golden, golden.beside("stage2"), **_constant_rate(golden))
    compute = Training(golden, method, 1)
    errors = _training_errors(drawn(golden))
    yield from golden.check_controlled(compute, _STAGE1, errors=errors)


def _training_errors(initial: Mapping[str, np.ndarray]):
    """Errors of a training's quantities; finals are measured apart from what they began as too."""

    def errors(actual: Arrays, expected: Arrays) -> dict[str, float]:
        found = _errors(actual, expected)
        for name in ("losses", "step_features", "step_projections"):
            if name in actual:
                first = relative_error(actual[name][0], expected[name][0])
                found[f"{name} of the first step"] = first
        ours, theirs = actual["final:*"], expected["final:*"]
        found["final:*"] = group_error(ours, theirs, floor=_FLOOR)
        found["final:* less the drawn (norm)"] = norm_error(
            {name: ours[name] - initial[name] for name in theirs},
            {name: theirs[name] - initial[name] for name in theirs},
        )
        if "change_norm" in actual:
            moves = expected["change_norm"] > 0
            found["change_norm"] = np.max(
                np.abs(actual["change_norm"] - expected["change_norm"])[moves]
                / expected["change_norm"][moves]
            )
            found["change_norm: what does not move"] = np.abs(actual["change_norm"][~moves]).max()
        return found

    return errors


class Training:
    """The first steps of a stage, compiled once for a file and its controls.

    Args:
        golden: The file.
        method: Of its sizes and settings.
        stage: Which stage.
    """

    def __init__(self, golden: Golden, method: CclNet, stage: int):
        self._method, self._stage = method, stage
        self._images = golden.beside("stage2")
        self._describe = jax.jit(method.describe)
        self._embedder = Embedder(method, flip=False)

        @jax.jit
        def step(state, images, indexes):
            def objective(model, memory):
                if stage == 1:
                    return method.prompt_loss(model, memory, indexes)
                return method.objective(model, memory, images, indexes, state.clock)

            if stage == 1:
                return (*method.step(state, objective), ())
            encoding = method.model(state.weights)(images, len(images) // 2, train=True)
            return (*method.step(state, objective), encoding)

        self._step = step

    def __call__(self, golden: Golden) -> Arrays:
        """Losses, outputs, gradients of the first step, and what the last one leaves."""
        method, stage = self._method, self._stage
        initial = drawn(golden)
        model = model_of(golden, method)
        weights = devices.put_replicated(Weights.of(model))
        results, memory, batches = self._start(golden, weights)
        state, metrics, encodings = method.start(weights, memory, stage=stage), [], []
        images = None
        if stage != 1:
            source = golden if "images_rgb" in golden else self._images
            images = jnp.concatenate([_images(source, modality) for modality in _PAIR])
        for number, rows in enumerate(batches):
            pixels = () if images is None else images[np.maximum(rows, 0)]
            state, figures, encoding = self._step(state, pixels, jnp.asarray(rows))
            metrics.append(figures)
            encodings.append(encoding)
            if number == 0:
                gradients = self._first_gradients(state, golden)
        final = initial | torch_names.collect(published.names(method.model(state.weights)))
        names = golden.with_prefix("grad:")
        results |= {
            "grad:*": {name: gradients[name] for name in names},
            "final:*": {name: final[name] for name in golden.with_prefix("final:")},
            "learning_rate": metrics[0]["learning_rate"],
        }
        if stage == 1:
            results["losses"] = np.array([float(each["loss"]) for each in metrics])
            for modality, texts in zip(_PAIR, self._describe(state.weights), strict=True):
                results[f"final_text_{modality}"] = texts
            return results
        results |= self._of_clusters(golden, state, metrics, encodings)
        moved = [name for name in initial if not name.endswith(_ROUNDING_ALONE)]
        places = np.isin(golden["parameter_names"], moved)
        change = [np.linalg.norm(np.float64(final[n]) - initial[n]) for n in initial]
        stats = _summaries(final, golden["parameter_names"])
        of_gradients = _summaries(gradients, golden["gradient_names"])
        return results | {
            "change_norm": np.where(places, change, golden.expected("change_norm")),
            "final_stats": np.stack(list(stats.values())),
            "gradient_stats": np.stack(list(of_gradients.values())),
        }

    def _first_gradients(self, state: TrainState, golden: Golden) -> dict[str, np.ndarray]:
        """Of the first step, from Adam's first moment after it: (gradient + decay weight) / 10."""

        def filled(moment, weight):
            return jnp.zeros_like(weight) if isinstance(moment, optax.MaskedNode) else moment

        moments = jax.tree.map(
            filled,
            optax.tree_utils.tree_get(state.optimizer, "mu"),
            state.weights.params,
            is_leaf=lambda node: isinstance(node, optax.MaskedNode),
        )
        model = self._method.model(dataclasses.replace(state.weights, params=moments))
        decay, before = float(golden["weight_decay"]), drawn(golden)
        return {
            name: array * 10 - decay * before[name]
            for name, array in torch_names.collect(published.names(model)).items()
            if name in before
        }

    def _start(self, golden: Golden, weights: Weights):
        """What precedes the steps: results, the memory, and the rows of every batch."""
        if self._stage == 1:
            labels = [golden[f"labels_{modality}"] for modality in _PAIR]
            projections = np.concatenate([golden[f"features_{modality}"] for modality in _PAIR])
            memory = PromptMemory(*_placed(labels), jnp.asarray(projections))
            orders = [golden["order_rgb"], golden["order_ir"] + len(labels[0])]
            size = int(golden["batch_size"])
            fill = -len(orders[0]) % size
            parts = [np.pad(o, (0, fill), constant_values=-1).reshape(-1, size) for o in orders]
            return {}, memory, np.concatenate(parts, axis=1)
        return self._start_clusters(golden, weights)

    def _start_clusters(self, golden: Golden, weights: Weights):
        method = self._method
        source = golden if "images_rgb" in golden else self._images
        images = [source[f"images_{modality}"] for modality in _PAIR]
        sizes = [len(part) for part in images]
        raw = [part if part.ndim == 4 else np.repeat(part[..., None], 3, -1) for part in images]
        columns = {"image": np.concatenate(raw), "modality": np.repeat([0, 1], sizes)}
        features = self._embedder(weights, columns)
        labels = [golden[f"pseudo_labels_{modality}"] for modality in _PAIR]
        described: Described | tuple = ()
        results = {}
        if self._stage == 2:
            texts = self._describe(weights)
            results |= {f"text_{m}": each for m, each in zip(_PAIR, texts, strict=True)}
            old = [golden[f"old_labels_{modality}"] for modality in _PAIR]
            described = Described(*_placed(old), texts)
        placed, first = _placed(labels)
        memory = method.memory_of(np.asarray(placed), int(first), features, described)
        clusters = [int(part.max()) + 1 for part in labels]
        for name, part, rows, count in zip(
            _PAIR, np.split(features, [sizes[0]]), memory.rows, clusters, strict=True
        ):
            results |= {f"features_{name}": part, f"memory_{name}": rows[:count]}
        batches = [golden["batches_rgb"], golden["batches_ir"] + sizes[0]]
        return results, memory, np.concatenate(batches, axis=1)

    def _of_clusters(self, golden: Golden, state: TrainState, metrics, encodings) -> Arrays:
        clusters = [int(golden[f"pseudo_labels_{modality}"].max()) + 1 for modality in _PAIR]
        final = zip(_PAIR, state.memory.rows, clusters, strict=True)
        terms = np.array([[float(each[name]) for name in _TERMS] for each in metrics])
        if self._stage == 2:
            texts = np.array([[float(e[f"{m}_text"]) for m in MODALITIES] for e in metrics])
            terms = np.column_stack([terms[:, :2], texts.sum(axis=1), texts, terms[:, 2]])
        return {
            "losses": terms,
            "learning_rate_bias": 2 * metrics[0]["learning_rate"],
            "step_features": np.stack([each.feature for each in encodings]),
            "step_projections": np.stack([each.projection for each in encodings]),
            **{f"memory_{name}_final": rows[:count] for name, rows, count in final},
        }


_TERMS = (*MODALITIES, "loss")
_OF_EACH = [f"{name}_{modality}" for name in ("features", "memory") for modality in _PAIR]
_CLUSTERS = {
    **dict.fromkeys(_OF_EACH, _OUTPUT),
    **dict.fromkeys(("learning_rate", "learning_rate_bias"), _SCHEDULE),
    **{
        f"{name}{when}": tolerance
        for name in ("losses", "step_features", "step_projections")
        for when, tolerance in ((" of the first step", _OUTPUT), ("", _LATER))
    },
    **dict.fromkeys(("grad:*", "gradient_stats"), _GRADIENT),
    **_FINALS,
    **dict.fromkeys(("memory_rgb_final", "memory_ir_final", "final_stats"), _LATER),
    "change_norm": _CHANGE,
    "change_norm: what does not move": 0.0,
}


def check_stage0(golden: Golden) -> Iterator[Check]:
    """`stage0.npz`: an epoch's beginning and its first three steps."""
    yield from _check_clusters(golden, 0, _CLUSTERS)


def check_stage2(golden: Golden) -> Iterator[Check]:
    """`stage2.npz`: likewise, with texts and the exchange of matched clusters."""
    texts = dict.fromkeys(("text_rgb", "text_ir"), _OUTPUT)
    similarity = clustering.jaccard_similarity(
        golden["features_rgb"], int(golden["k1"]), int(golden["k2"])
    )
    yield golden.check("jaccard_distance_rgb", 1 - similarity.toarray(), _OUTPUT)
    yield from _check_clusters(golden, 2, texts | _CLUSTERS)


def _check_clusters(golden: Golden, stage: int, tolerances) -> Iterator[Check]:
    scale, instances = float(golden["change_scale"]), int(golden["num_instances"])
    groups = _constant_rate(golden) | {
        "clustering": {
            "k1": int(golden["k1"]),
            "k2": int(golden["k2"]),
            "eps": float(golden["eps"]),
            "min_samples": int(golden["min_samples"]),
        },
        "memory": {name: float(golden[name]) for name in ("momentum", "temperature")},
        # Before the late epochs the published weight of the old row is 1: there is no exchange.
        "exchange": {"after": 0 if scale < 1 else 1_000_000, "weight": scale},
        "batch_size": 2 * int(golden["batch_size"]) * instances,
        "sampler": {"num_instances": instances},
    }
    images = golden if "images_rgb" in golden else golden.beside("stage2")
    method = method_of(golden, images, **groups)
    compute = Training(golden, method, stage)
    results = compute(golden)
    features = np.concatenate([results[f"features_{modality}"] for modality in _PAIR])
    sizes = [len(golden.expected(f"pseudo_labels_{modality}")) for modality in _PAIR]
    found = method.cluster(features, np.repeat([0, 1], sizes))
    for modality, labels in zip(_PAIR, np.split(found, [sizes[0]]), strict=True):
        yield golden.check_partition(f"pseudo_labels_{modality}", labels)
    yield from golden.check_controlled(compute, tolerances, errors=_training_errors(drawn(golden)))


CHECKS = {
    "model": check_model,
    "losses": check_losses,
    "schedule": check_schedule,
    "sampler": check_sampler,
    "stage0": check_stage0,
    "stage1": check_stage1,
    "stage2": check_stage2,
    "evaluation": check_evaluation,
}
