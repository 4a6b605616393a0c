"""DeskPro's golden files, recomputed; `docs/methods/deskpro.md` describes what is in them."""

import dataclasses
import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from sicl_jax import config as configs
from sicl_jax.data import augment
from sicl_jax.data.pixels import Form
from sicl_jax.evaluation import FeatureSet, rules
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.ranking import rank
from sicl_jax.losses import cross_entropy, hard_triplet
from sicl_jax.methods.deskpro import losses, weights
from sicl_jax.methods.deskpro.method import DeskPro, released_rate
from sicl_jax.methods.deskpro.model import Outputs, Pictures
from sicl_jax.methods.deskpro.verify_network import (
    COUNTER,
    OUTPUT,
    check_embedding,
    check_full_size,
    check_modules,
    config_of,
    drawn,
    evaluator_of,
    pixels_of,
)
from sicl_jax.methods.state import Clock
from sicl_jax.models.layers import wide
from sicl_jax.models.lmbn import NUM_HEADS
from sicl_jax.verify import Check, Golden
from sicl_jax.verify.checks import Arrays, array_errors, relative_error, statistics
from sicl_jax.verify.networks import begun, first_gradients, nchw, trained
from sicl_jax.verify.samplers import check_identities
from sicl_jax.weights import torch_names

_LOSS, _PICTURE = 1e-5, 1e-6


# ---- losses.npz ----------------------------------------------------------------------------


def check_losses(golden: Golden) -> Iterator[Check]:
    """Each term with its gradient, and the sum of heads in every setting."""
    labels = jnp.asarray(golden["labels"])
    margin, temperature = float(golden["triplet_margin"]), float(golden["kd_temperature"])
    mask, teacher = jnp.asarray(golden["mask"][:, 0]), jnp.asarray(golden["kd_teacher"])
    terms = {
        "ce": (lambda x: cross_entropy(x, labels, losses.SMOOTHING), "ce_logits"),
        "triplet": (lambda x: hard_triplet(x, labels, margin), "triplet_features"),
        "ms": (
            lambda x: losses.multi_similarity(
                x, labels, margin=float(golden["ms_margin"]), compat="released"
            ),
            "ms_features",
        ),
        "kd": (lambda x: losses.taught(teacher, x, temperature), "kd_student"),
        "attn": (lambda x: losses.attention_loss(x[:, 0], mask), "attn_map"),
    }
    for name, (term, argument) in terms.items():
        value, gradient = jax.jit(jax.value_and_grad(term))(jnp.asarray(golden[argument]))
        yield golden.check(f"{name}_value", value, _LOSS)
        yield golden.check(f"{name}_grad", gradient, _LOSS)
    size = golden.expected("attn_target").shape[2:]
    target = jax.jit(losses.attention_target, static_argnums=(1, 2))(mask, *size)
    yield golden.check("attn_target", target[:, None], _LOSS)
    yield from _check_identification(golden, labels)


def _check_identification(golden: Golden, labels: jax.Array) -> Iterator[Check]:
    heads, features = jnp.asarray(golden["heads"]), jnp.asarray(golden["head_features"])
    first = [1 - float(golden["alpha"])] * NUM_HEADS
    margin = float(golden["triplet_margin"])
    plain = {
        "weights": first + [1.0] * NUM_HEADS,
        "metric": lambda f, y: hard_triplet(f, y, margin),
    }

    def value(heads, features, **changes):
        return losses.identification(heads, features, labels, **(plain | changes))

    found, gradients = jax.jit(jax.value_and_grad(value, (0, 1)))(heads, features)
    yield golden.check("reid_value", found, _LOSS)
    yield golden.check("reid_grad_heads", gradients[0], _LOSS)
    yield golden.check("reid_grad_features", gradients[1], _LOSS)
    half = NUM_HEADS, len(features) // 2
    settings = {
        "body_mode": value(heads[half[0] :], features[half[1] :], weights=first),
        "face_mode": value(heads[: half[0]], features[: half[1]], weights=first),
        "kd_disabled": value(heads, features, weights=[1.0] * len(heads)),
        "no_smoothing": value(heads, features, smoothing=0.0),
        "weights_half_two": value(heads, features, factors=(0.5, 2.0)),
        "ms": value(
            heads,
            features,
            metric=lambda f, y: losses.multi_similarity(f, y, margin=margin, compat="released"),
        ),
    }
    for name, found in settings.items():
        yield golden.check(f"reid_value_{name}", found, _LOSS)


# ---- train_steps.npz ------------------------------------------------------------------------

_GRADIENT, _FINAL, _RATE = 1e-3, 2e-3, 1e-6
_SKIPPED = ("stats", "eval_output", "float64_error")
_FIELDS = {
    "loss.alpha": "alpha",
    "loss.temperature": "kd_temperature",
    "loss.attention": "attention_weight",
    "loss.margin": "margin",
}
_STEP0 = ("logits", "features", "attention", "teacher_logits")
_TOLERANCES = {
    "eval_*": OUTPUT,
    "step0_*": OUTPUT,
    "loss_*": OUTPUT,
    "losses of the first step": OUTPUT,
    "losses": _GRADIENT,
    "lrs": _RATE,
    "grad_*": _GRADIENT,
    "grad_stats": _GRADIENT,
    "final_*": _FINAL,
    "final_stats": _FINAL,
    "final_eval_output": _FINAL,
}


def check_train_steps(golden: Golden) -> Iterator[Check]:
    """Three steps of the whole method as released, an epoch each, on pictures as they are."""
    expected = [released_base(*golden["batch"]), 5e-4, 0.9, 0.999, 1e-8]
    apart = np.abs(golden.expected("optimizer") - expected).max()
    yield golden.verdict("optimizer", apart, 1e-7)

    def errors(actual: Arrays, expected: Arrays) -> dict[str, float]:
        found = array_errors(actual, expected)
        for name in ("eval_*", "step0_*", "loss_*"):
            each = [relative_error(actual[name][key], a) for key, a in expected[name].items()]
            found[name] = max(each)
        return found

    direct = [name for name in _TOLERANCES if name != "losses" and not name.startswith("final_")]
    yield from golden.check_controlled(_Trainer(golden), _TOLERANCES, errors=errors, direct=direct)


def released_base(identities: int, images: int) -> float:
    """The base rate of a batch of so many identities with so many images each."""
    return 6e-4 * math.sqrt(identities * images / 20)


class _Trainer:
    """The programs of `train_steps.npz`, compiled once.

    Args:
        golden: The file, for the fields of the config.
    """

    def __init__(self, golden: Golden):
        self._evaluator = evaluator_of(golden)
        config = config_of(golden, _FIELDS)
        config.optimizer.learning_rate = released_base(*golden["batch"].tolist())
        self._final = [n for n in golden.with_prefix("final_") if n not in _SKIPPED]
        # The file at hand has the drawn weights under these names; its statistics are final ones.
        first = drawn(golden)
        self._moved = any(np.any(golden.expected(f"final_{n}") != first[n]) for n in self._final)
        methods = {}
        for mode in ("all", "face", "body"):
            config.forward_mode = mode
            sizes = self._evaluator.method.sizes
            methods[mode] = DeskPro(config.copy_and_resolve_references(), sizes)
        self._method = method = methods["all"]

        @jax.jit
        def step(state, pictures, classes):
            def objective(model, _):
                outputs = method.run(model, pictures)
                told = {
                    mode: _four(*each.objective(outputs, pictures.mask, classes))
                    for mode, each in methods.items()
                }
                loss, aux = method.objective(outputs, pictures.mask, classes)
                return loss, dataclasses.replace(aux, metrics=told | _step0(outputs))

            return method.step(state, objective)

        self._step = step

    def __call__(self, golden: Golden) -> Arrays:
        """What the file holds, recomputed."""
        size = math.prod(golden["batch"])
        pixels = pixels_of(golden)
        masks = golden["masks"].astype(float) / 255
        first = {name: p[:size] for name, p in pixels.items()}
        before = drawn(golden)
        start = state = begun(self._method, before, golden)
        has_face = np.ones(size, np.int32)
        has_face[1] = 0
        columns, attention, teacher = self._evaluator(state.weights, first, has_face)
        results: dict = {
            "eval_*": {
                "output": columns,
                "output_face_mode": columns[:, :, :NUM_HEADS],
                "output_body_mode": columns[:, :, NUM_HEADS:],
                "attention": attention[:, None],
                "teacher_output": teacher,
            }
        }
        steps = []
        for number, labels in enumerate(golden["labels"]):
            rows = slice(number * size, (number + 1) * size)
            normalized = {
                name: augment.normalize(jnp.asarray(p[rows])) for name, p in pixels.items()
            }
            state = dataclasses.replace(state, clock=Clock.at(number, epoch=number))
            pictures = Pictures(**normalized, mask=jnp.asarray(masks[rows]))
            state, told = self._step(state, pictures, jnp.asarray(labels))
            steps.append(told)
            if number == 0:
                names = weights.names(first_gradients(self._method, start, state))
                gradients = torch_names.collect(trained(names))
        step0 = {name: np.asarray(steps[0][name]) for name in _STEP0}
        step0["attention"] = step0["attention"][:, None]
        results["step0_*"] = step0
        results["loss_*"] = {
            f"{mode}_mode": np.asarray(steps[0][mode]) for mode in ("face", "body")
        }
        listed = golden.with_prefix("grad_", but_not=("grad_names", "grad_stats", "grad_float"))
        results["grad_*"] = {name: gradients[name] for name in listed}
        results["grad_stats"] = statistics(gradients, golden["grad_names"])
        results["losses"] = np.stack([told["all"] for told in steps])
        results["lrs"] = np.array([told["learning_rate"] for told in steps])
        last = torch_names.collect(weights.names(self._method.model(state.weights)))
        given = last if self._moved else before
        results["final_*"] = {name: given[name] for name in self._final}
        results["final_stats"] = statistics(last, golden["parameter_names"])
        counters = [str(name).endswith(COUNTER) for name in golden["parameter_names"]]
        results["final_stats"][counters] = golden.expected("final_stats")[counters]
        results["final_eval_output"] = self._evaluator(state.weights, first)[0]
        return results


def _four(loss: jax.Array, aux) -> jax.Array:
    """A loss and its terms in the order of the file."""
    terms = (aux.metrics.get(n, 0.0) for n in ("identification", "distillation", "attention"))
    return jnp.stack([jnp.asarray(x, loss.dtype) for x in (loss, *terms)])


def _step0(outputs: Outputs) -> dict[str, jax.Array]:
    def both(pick):
        return jnp.concatenate([pick(outputs.student), pick(outputs.body)])

    return {
        "logits": both(lambda heads: heads.logits),
        "features": both(lambda heads: heads.features),
        "attention": outputs.attention,
        "teacher_logits": outputs.teacher.logits,
    }


# ---- the rest ------------------------------------------------------------------------------


def check_schedule_sampler(golden: Golden) -> Iterator[Check]:
    """Learning rates by epoch, past the end too, and the rules that batches obey."""
    for name in ("readme", "prcc_file", "this"):
        *batch, epochs = golden[f"lr_{name}_setting"].tolist()
        config = configs.base("deskpro")
        config.optimizer.learning_rate = released_base(*batch)
        config.schedule.end = int(epochs) - 1
        steps = jnp.arange(len(golden[f"lr_{name}"]), dtype=float)
        rates = jax.jit(jax.vmap(functools.partial(released_rate, config)))(steps)
        yield golden.check(f"lr_{name}", rates, _LOSS)
    identities, images = map(int, golden["sampler_batch"])
    theirs = [golden[f"sampler_epoch{i}"].reshape(-1, identities * images) for i in range(3)]
    ours = yield from check_identities(
        golden,
        "sampler_epoch*",
        theirs,
        golden["sampler_labels"],
        num_instances=images,
        epochs=100,
    )
    lengths = {len(epoch) for epoch in theirs} - {len(epoch) for epoch in ours}
    yield golden.verdict("sampler_epoch*: lengths that ours never have", len(lengths), 0.0)


def check_transforms(golden: Golden) -> Iterator[Check]:
    """The chain of each picture by the published draws, and the chain of a test."""
    sizes = {"image": golden["body_size"], "mask": golden["body_size"]}
    fill = configs.base("deskpro").augment.erase_fill
    for case in range(int(golden["cases"])):
        draws = golden[f"case{case}_draws"]
        for row, picture in enumerate(("image", "lr_face", "hr_face", "mask")):
            name = f"case{case}_{picture}"
            pixels = _resized(golden[f"{name}_raw"], sizes.get(picture, golden["face_size"]))
            found = _augmented(pixels, draws[row])
            if picture == "mask":
                found = wide(found)[..., :1] / 255
            else:
                found = augment.normalize(found)
                found = augment.erase(found, _box(draws[row]), fill)
            yield golden.check(name, nchw(found)[0], _PICTURE)
    pixels = _resized(golden["test_raw"], golden["body_size"])
    yield golden.check("test_image", nchw(augment.normalize(pixels))[0], _PICTURE)
    yield golden.check("test_lr_face", np.zeros((3, *golden["face_size"])), 0.0)


def _augmented(pixels: jax.Array, draws: np.ndarray) -> jax.Array:
    flipped, cropped, left, top = draws[:4]
    pixels = augment.flip(pixels, jnp.asarray([flipped > 0]))
    starts = jnp.asarray([[max(top, 0), max(left, 0)]])
    return augment.enlarge_and_crop(pixels, jnp.asarray([cropped > 0]), starts, 1.05)


def _box(draws: np.ndarray) -> jax.Array:
    return jnp.asarray(draws[None, 4:] if draws[4] >= 0 else np.zeros((1, 4), int))


def _resized(pixels: np.ndarray, size) -> jax.Array:
    form = Form(tuple(map(int, size)), "bilinear")
    return jnp.asarray(form.fit(Image.fromarray(pixels)))[None]


def check_evaluation(golden: Golden) -> Iterator[Check]:
    """CMC and mAP of given distances, a query without match among them."""
    query, gallery = (
        FeatureSet(
            np.zeros((len(golden[f"{side}_ids"]), 1)),
            {"identity": golden[f"{side}_ids"], "camera": golden[f"{side}_cameras"]},
        )
        for side in ("query", "gallery")
    )
    rows = golden["distance"]
    ranking = rank(query, gallery, {"": rules.STANDARD}, distances=lambda a, b: rows[a:b])[""]
    result = summarize(ranking)
    for path in ("cython", "python"):
        yield golden.check(f"cmc_{path}", result.cmc, _LOSS)
        yield golden.check(f"map_{path}", result.mAP, _LOSS)


CHECKS = {
    "losses": check_losses,
    "modules": check_modules,
    "schedule_sampler": check_schedule_sampler,
    "transforms": check_transforms,
    "evaluation": check_evaluation,
    "train_steps": check_train_steps,
    "embedding": check_embedding,
    "full_size": check_full_size,
}
