"""DeskPro's golden files, recomputed; `docs/methods/deskpro.md` describes what is in them."""

import dataclasses
import functools
import math
import zlib
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import nnx
from PIL import Image

from sicl_jax import config as configs
from sicl_jax import devices
from sicl_jax.data import augment, samplers
from sicl_jax.evaluation import FeatureSet, rules
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.ranking import rank
from sicl_jax.losses import cross_entropy, hard_triplet
from sicl_jax.methods.deskpro import losses, weights
from sicl_jax.methods.deskpro.method import DeskPro, released_rate
from sicl_jax.methods.deskpro.model import DeskProModel, Outputs, Pictures, SpatialAttention
from sicl_jax.methods.state import Batch, Clock, Weights
from sicl_jax.models.layers import wide
from sicl_jax.models.lmbn import NUM_HEADS, Head, drop_rows, flatten_columns, unit_columns
from sicl_jax.models.osnet import Block
from sicl_jax.verify import Check, Golden
from sicl_jax.verify.checks import group_error, relative_error
from sicl_jax.verify.files import Arrays
from sicl_jax.verify.samplers import identity_faults
from sicl_jax.weights import lmbn, osnet, torch_names

_LOSS = 1e-5
_OUTPUT = 1e-4
_GRADIENT = 1e-3
_FINAL = 2e-3
_PICTURE = 1e-6
# Arrays smaller than this share of the largest are measured as if they were as large as that.
_FLOOR = 1e-2
_CHUNK = 6  # Images of the embedding's program: as many as those of a training step.
_COUNTER = "num_batches_tracked"


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


# ---- modules.npz ---------------------------------------------------------------------------


def check_modules(golden: Golden) -> Iterator[Check]:
    """OSNet's block in both modes, the drop of rows, the attention, and a head."""
    for kind in ("same", "wider"):
        yield from _check_block(golden, f"block_{kind}")
    for name in sorted(golden.with_prefix("drop_input_"), key=int):
        dropped = jax.jit(drop_rows)(_nhwc(golden[f"drop_input_{name}"]))
        yield golden.check(f"drop_output_{name}", _nchw(dropped), _LOSS)

    x = _nhwc(golden["attention_input"])
    attention = nnx.eval_shape(lambda: SpatialAttention(x.shape[-1]))
    names = {f"attention.conv{i}.weight": getattr(attention, f"conv{i}").kernel for i in (1, 2)}
    _fill(golden, names)
    yield golden.check("attention_output", _nchw(_jitted(attention)(x)), _LOSS)

    x, logits = jnp.asarray(golden["neck_input"][:, :, 0, 0]), golden.expected("neck_logits")
    features = golden.expected("neck_before").shape[1]
    head = nnx.eval_shape(lambda: Head(x.shape[1], features, logits.shape[1]))
    _fill(golden, lmbn.head("reduction.neck", head))
    found = _jitted(head, train=True)(x)
    for name, array in zip(("logits", "before", "after"), found, strict=True):
        yield golden.check(f"neck_{name}", array, _LOSS)


def _check_block(golden: Golden, name: str) -> Iterator[Check]:
    sizes = [golden.expected(f"{name}_{part}").shape[1] for part in ("input", "cotangent")]
    block = nnx.eval_shape(lambda: Block(*sizes, streams="released"))
    names = osnet.block(name, block)
    _fill(golden, names)
    found = _jitted(block, train=False)(_nhwc(golden[f"{name}_input"]))
    yield golden.check(f"{name}_eval", _nchw(found), _LOSS)

    graph, *_ = nnx.split(block, nnx.Param, ...)

    @jax.jit
    def train(params, rest, x, cotangent):
        def weighted(params, x):
            block = nnx.merge(graph, params, rest, copy=True)
            y = block(x, train=True)
            return jnp.sum(y * cotangent), (y, nnx.state(block, nnx.BatchStat))

        return jax.grad(weighted, (0, 1), has_aux=True)(params, x)

    def compute(golden: Golden) -> Arrays:
        _fill(golden, names)
        _, *state = nnx.split(block, nnx.Param, ...)
        given = (_nhwc(golden[f"{name}_{part}"]) for part in ("input", "cotangent"))
        (of_params, of_input), (y, statistics) = train(*state, *given)
        nnx.update(block, statistics)
        after = torch_names.collect(names)
        nnx.update(block, of_params)
        gradients = torch_names.collect(names)
        return {
            f"{name}_train": _nchw(y),
            f"{name}_grad_input": _nchw(of_input),
            f"{name}_after_*": {
                rest: after[f"{name}.{rest}"] for rest in golden.with_prefix(f"{name}_after_")
            },
            f"{name}_grad_conv2a": gradients[f"{name}.conv2a.conv2.weight"],
            f"{name}_grad_gate_fc1": gradients[f"{name}.gate.fc1.weight"],
        }

    gradients = [f"{name}_grad_{of}" for of in ("input", "conv2a", "gate_fc1")]
    tolerances = dict.fromkeys((f"{name}_train", f"{name}_after_*"), _LOSS)
    tolerances |= dict.fromkeys(gradients, _OUTPUT)
    yield from golden.check_controlled(compute, tolerances, direct=tolerances)


# ---- the whole network ---------------------------------------------------------------------


def check_full_size(golden: Golden) -> Iterator[Check]:
    """The published size: names, shapes and what is trained; both networks and the teacher."""
    evaluator = _evaluator(golden)
    model = evaluator.filled(golden)
    names = weights.names(model)
    theirs = _shapes(golden)
    apart = {name: torch_names.torch_shape(v) for name, v in names.items()}.items() ^ theirs.items()
    yield golden.verdict("parameter_names, parameter_shapes", len(apart), 0.0)
    # Published optimisers hold what gets no gradient too: the teacher and the unused streams.
    held = {n for n, v in names.items() if isinstance(torch_names.variable_of(v), nnx.Param)}
    unused = {
        name
        for name in names
        if (name.startswith(f"{lmbn.TEACHER}.") or ".conv2b." in name)
        and not name.endswith(("running_mean", "running_var"))
        and not (".reduction" in name and name.endswith("bn.bias"))
    }
    apart = (held | unused) ^ set(map(str, golden["trainable"]))
    yield golden.verdict("trainable", len(apart), 0.0)
    columns, _, teacher = evaluator(Weights.of(model), _pixels(golden))
    yield golden.check("eval_output", columns, _OUTPUT)
    yield golden.check("eval_teacher_output", teacher, _OUTPUT)


def check_embedding(golden: Golden) -> Iterator[Check]:
    """Embeddings and distances with the mirrored view, and as released, where faces are missing."""
    evaluator = _evaluator(golden)
    state = Weights.of(evaluator.filled(golden))
    pixels = _pixels(golden)
    has_face = np.ones(len(pixels["image"]), np.int32)
    has_face[golden["without_face"]] = 0
    plain, mirrored = (
        np.concatenate(
            [
                evaluator(
                    state,
                    {name: p[start : start + _CHUNK] for name, p in views.items()},
                    has_face[start : start + _CHUNK],
                )[0]
                for start in range(0, len(has_face), _CHUNK)
            ]
        )
        for views in (pixels, {name: p[:, :, ::-1] for name, p in pixels.items()})
    )
    plain, mirrored = (flatten_columns(jnp.asarray(columns)) for columns in (plain, mirrored))
    for kind, features in (("flip", plain + mirrored), ("released", 2 * plain)):
        rows = np.asarray(unit_columns(features, 2 * NUM_HEADS, zeros_stay=False))
        yield from _check_distances(golden, kind, rows)
        kept = np.asarray(unit_columns(features, 2 * NUM_HEADS))
        yield golden.verdict(f"{kind}: zeros for NaN", np.abs(kept - np.nan_to_num(rows)).max(), 0)


def _check_distances(golden: Golden, kind: str, rows: np.ndarray) -> Iterator[Check]:
    theirs = golden.expected(f"{kind}_embedding")
    apart = np.count_nonzero(np.isnan(rows) != np.isnan(theirs))
    yield golden.verdict(f"{kind}_embedding: NaN", apart, 0.0)
    error = np.abs(np.nan_to_num(rows) - np.nan_to_num(theirs)).max() / np.nanmax(np.abs(theirs))
    yield golden.verdict(f"{kind}_embedding", error, _OUTPUT)
    queries, half = int(golden["num_query"]), rows.shape[1] // 2
    distance = golden.expected(f"{kind}_distance")
    ours = 1 - rows[:queries] @ rows[queries:].T
    apart = np.count_nonzero(np.isnan(ours) != np.isnan(distance))
    yield golden.verdict(f"{kind}_distance: NaN", apart, 0.0)
    error = np.abs(np.nan_to_num(ours) - np.nan_to_num(distance)).max()
    yield golden.verdict(f"{kind}_distance", error / np.nanmax(np.abs(distance)), _OUTPUT)
    rows = np.nan_to_num(rows)
    labels = {"identity": golden["identities"], "camera": golden["cameras"]}
    for stream, part in (("face", rows[:, :half]), ("body", rows[:, half:]), ("all", rows)):
        query, gallery = (
            FeatureSet(
                np.ascontiguousarray(part[side]),
                {name: values[side] for name, values in labels.items()},
                similarity="dot",
            )
            for side in (slice(queries), slice(queries, None))
        )
        result = summarize(rank(query, gallery, {"": rules.STANDARD})[""])
        figures = [result.rank1, result.rank5, result.rank10, result.mAP]
        yield golden.check(f"{kind}_{stream}_nan_as_zero", figures, _OUTPUT)


_STEP0 = ("logits", "features", "attention", "teacher_logits")
_TOLERANCES = {
    "eval_*": _OUTPUT,
    "step0_*": _OUTPUT,
    "loss_*": _OUTPUT,
    "losses of the first step": _OUTPUT,
    "losses": _GRADIENT,
    "lrs": _PICTURE,
    "grad_*": _GRADIENT,
    "grad_stats": _GRADIENT,
    "final_*": _FINAL,
    "final_stats": _FINAL,
    "final_eval_output": _FINAL,
}


def check_train_steps(golden: Golden) -> Iterator[Check]:
    """Three steps of the whole method as released, an epoch each, on pictures as they are."""
    trainer = _Trainer(golden)
    optimizer = golden.expected("optimizer")
    base = 6e-4 * math.sqrt(math.prod(golden["batch"]) / 20)
    apart = np.abs(optimizer - [base, 5e-4, 0.9, 0.999, 1e-8]).max()
    yield golden.verdict("optimizer", apart, 1e-7)
    drawn = _drawn(golden, _shapes(golden))
    skipped = ("final_stats", "final_eval_output", "final_float64_error")
    final = [name for name in golden.with_prefix("final_") if f"final_{name}" not in skipped]
    # The file at hand has the drawn weights under these names; its statistics are the final ones.
    moved = any(np.any(golden.expected(f"final_{name}") != drawn[name]) for name in final)

    counters = [str(n).endswith(_COUNTER) for n in golden["parameter_names"]]

    def errors(actual: Arrays, expected: Arrays) -> dict[str, float]:
        found = {
            name: max(relative_error(actual[name][key], a) for key, a in expected[name].items())
            for name in ("eval_*", "step0_*", "loss_*")
        }
        for name in ("grad_*", "final_*"):
            found[name] = group_error(actual[name], expected[name], floor=_FLOOR)
        found["grad_stats"] = _rows_error(actual["grad_stats"], expected["grad_stats"])
        kept = np.logical_not(counters)
        found["final_stats"] = _rows_error(
            actual["final_stats"][kept], expected["final_stats"][kept]
        )
        for name in ("losses", "lrs", "final_eval_output"):
            found[name] = relative_error(actual[name], expected[name])
        found["losses of the first step"] = relative_error(
            actual["losses"][0], expected["losses"][0]
        )
        return found

    def compute(golden: Golden) -> Arrays:
        return trainer(golden, final, after=moved)

    direct = [name for name in _TOLERANCES if name != "losses" and not name.startswith("final_")]
    yield from golden.check_controlled(compute, _TOLERANCES, errors=errors, direct=direct)


class _Evaluator:
    """The program of a test of networks of one size."""

    def __init__(self, method: DeskPro):
        self.method = method

        @jax.jit
        def evaluate(weights, pixels, has_face):
            model = method.model(weights)
            batch = Batch(jnp.arange(len(has_face)), pixels, {"has_face": has_face})
            rows = method.embed(model, batch, "all")
            attention = model.body.attend(augment.normalize(pixels["image"]), train=False)[1]
            restored = augment.normalize(pixels["restored"])
            return rows, attention, model.teacher(restored, train=False).embedding

        self._evaluate = evaluate

    def __call__(
        self, arrays: Weights, pixels: Mapping[str, np.ndarray], has_face: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Columns (B, D, 14), attention (B, h, w) and the teacher's columns (B, D, 7)."""
        size = len(pixels["image"])
        has_face = np.ones(size, np.int32) if has_face is None else has_face
        rows, attention, teacher = map(np.asarray, self._evaluate(arrays, dict(pixels), has_face))
        return rows.reshape(size, 2 * NUM_HEADS, -1).swapaxes(1, 2), attention, teacher

    def filled(self, golden: Golden) -> DeskProModel:
        """The model with the weights that a file's names stand for."""
        model = self.method.abstract_model()
        _fill(golden, weights.names(model))
        return model


class _Trainer:
    """The programs of `train_steps.npz`, compiled once.

    Args:
        golden: The file, for the fields of the config.
    """

    def __init__(self, golden: Golden):
        self._evaluator = _evaluator(golden)
        config = _config(golden)
        config.loss.alpha = float(golden["alpha"])
        config.loss.temperature = float(golden["kd_temperature"])
        config.loss.attention = float(golden["attention_weight"])
        config.loss.margin = float(golden["margin"])
        config.optimizer.learning_rate = 6e-4 * math.sqrt(math.prod(golden["batch"]) / 20)
        methods = {}
        for mode in ("all", "face", "body"):
            config.forward_mode = mode
            sizes = self._evaluator.method.sizes
            methods[mode] = DeskPro(config.copy_and_resolve_references(), sizes)
        self.method = method = methods["all"]

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

    def __call__(self, golden: Golden, final: list[str], *, after: bool) -> Arrays:
        """What the file holds, recomputed.

        Args:
            golden: The file, or a control.
            final: Names of the weights to give.
            after: Whether they are those after the last step, or those before the first.
        """
        size = math.prod(golden["batch"])
        pixels = _pixels(golden)
        masks = golden["masks"].astype(float) / 255
        first = {name: p[:size] for name, p in pixels.items()}
        model = self._evaluator.filled(golden)
        state = self.method.start(devices.put_replicated(Weights.of(model)), ())
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
        steps, before = [], _collect(self.method, state.weights)
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
                gradients = self._gradients(state, before)
        step0 = {name: np.asarray(steps[0][name]) for name in _STEP0}
        step0["attention"] = step0["attention"][:, None]
        results["step0_*"] = step0
        results["loss_*"] = {
            f"{mode}_mode": np.asarray(steps[0][mode]) for mode in ("face", "body")
        }
        listed = golden.with_prefix("grad_", but_not=("grad_names", "grad_stats", "grad_float"))
        results["grad_*"] = {name: gradients[name] for name in listed}
        none = np.zeros(0)
        results["grad_stats"] = np.stack(
            [_statistics(gradients.get(str(name), none)) for name in golden["grad_names"]]
        )
        results["losses"] = np.stack([told["all"] for told in steps])
        results["lrs"] = np.array([told["learning_rate"] for told in steps])
        last = _collect(self.method, state.weights)
        results["final_*"] = {name: (last if after else before)[name] for name in final}
        results["final_stats"] = np.stack(
            [_statistics(last[str(name)]) for name in golden["parameter_names"]]
        )
        results["final_eval_output"] = self._evaluator(state.weights, first)[0]
        return results

    def _gradients(self, state, before: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Gradients of the first step by name, from Adam's first moment: (g + decay w) / 10."""
        moments = optax.tree_utils.tree_get(state.optimizer, "mu")
        model = self.method.model(dataclasses.replace(state.weights, params=moments))
        decay = self.method.config.optimizer.weight_decay
        return {
            name: torch_names.collect({name: entry})[name] * 10 - decay * before[name]
            for name, entry in weights.names(model).items()
            if isinstance(torch_names.variable_of(entry), nnx.Param)
        }


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
        identities, images, epochs = map(int, golden[f"lr_{name}_setting"])
        config = configs.base("deskpro")
        config.optimizer.learning_rate = 6e-4 * math.sqrt(identities * images / 20)
        config.schedule.end = epochs - 1
        steps = jnp.arange(len(golden[f"lr_{name}"]), dtype=float)
        rates = jax.jit(jax.vmap(functools.partial(released_rate, config)))(steps)
        yield golden.check(f"lr_{name}", rates, _LOSS)
    labels = golden["sampler_labels"]
    identities, images = map(int, golden["sampler_batch"])
    size = identities * images
    theirs = [golden[f"sampler_epoch{i}"].reshape(-1, size) for i in range(3)]
    ours = [
        samplers.draw_identities(
            labels, batch_size=size, num_instances=images, rng=np.random.default_rng(seed)
        )
        for seed in range(100)
    ]
    for name, epochs in (("sampler_epoch*: rules", theirs), ("our epochs: rules", ours)):
        faults = sum(identity_faults(epoch, labels, images) for epoch in epochs)
        yield golden.verdict(name, faults, 0.0)
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
            yield golden.check(name, _nchw(found)[0], _PICTURE)
    pixels = _resized(golden["test_raw"], golden["body_size"])
    yield golden.check("test_image", _nchw(augment.normalize(pixels))[0], _PICTURE)
    yield golden.check("test_lr_face", np.zeros((3, *golden["face_size"])), 0.0)


def _augmented(pixels: jax.Array, draws: np.ndarray) -> jax.Array:
    flipped, cropped, left, top = draws[:4]
    pixels = augment.flip(pixels, jnp.asarray([flipped > 0]))
    starts = jnp.asarray([[max(top, 0), max(left, 0)]])
    return augment.enlarge_and_crop(pixels, jnp.asarray([cropped > 0]), starts, 1.05)


def _box(draws: np.ndarray) -> jax.Array:
    return jnp.asarray(draws[None, 4:] if draws[4] >= 0 else np.zeros((1, 4), int))


def _resized(pixels: np.ndarray, size) -> jax.Array:
    height, width = map(int, size)
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return jnp.asarray(np.asarray(picture))[None]


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


# ---- what several need ---------------------------------------------------------------------


def _config(golden: Golden) -> ml_collections.ConfigDict:
    """The released method, of a file's sizes."""
    config = configs.base("deskpro")
    config.compat = config.model.streams = "released"
    config.model.blocks = tuple(map(int, golden["layers"]))
    config.model.channels = tuple(map(int, golden["channels"]))
    config.model.features = int(golden["feats"])
    return config


def _evaluator(golden: Golden) -> _Evaluator:
    """The test's program for a file; files of one size share it."""
    config = _config(golden)
    sizes = (int(golden["num_classes"]), golden.dtype == np.float64)
    return _evaluator_of(configs.to_json(config), *sizes)


@functools.lru_cache(maxsize=4)
def _evaluator_of(config: str, classes: int, float64: bool) -> _Evaluator:
    del float64  # Programs of another type are others.
    return _Evaluator(DeskPro(configs.from_json(config), {"classes": classes}))


def _pixels(golden: Golden) -> dict[str, np.ndarray]:
    """Pictures as bytes; the face stands for a restored one where the file has none."""
    names = {"image": "images", "face": "lr_faces", "restored": "hr_faces"}
    if "hr_faces" not in golden:
        names["restored"] = "lr_faces"
    return {role: golden[name].transpose(0, 2, 3, 1) for role, name in names.items()}


def _shapes(golden: Golden) -> dict[str, tuple[int, ...]]:
    """Shapes of a file's weights by name, counters left out."""
    return {
        str(name): tuple(map(int, str(shape).split()))
        for name, shape in zip(golden["parameter_names"], golden["parameter_shapes"], strict=True)
        if not str(name).endswith(_COUNTER)
    }


def _drawn(golden: Golden, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The weights that names stand for, each drawn from a generator seeded by its own."""
    seed = int(golden["weights_seed"])
    return {n: golden.as_input(n, _weight(seed, n, shape)) for n, shape in shapes.items()}


def _weight(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if name.endswith("running_var"):
        array = rng.uniform(0.5, 1.5, shape)
    elif name.endswith("running_mean"):
        array = rng.normal(0, 0.1, shape)
    elif "reduction" in name and name.endswith("bn.bias"):
        array = np.zeros(shape)
    elif len(shape) in (2, 4):
        array = rng.normal(0, math.sqrt(1 / math.prod(shape[1:])), shape)
    elif name.endswith("weight"):
        array = rng.uniform(0.5, 1.5, shape)
    else:
        array = rng.normal(0, 0.1, shape)
    return array.astype(np.float32)


def _fill(golden: Golden, names: torch_names.Names) -> None:
    """Gives variables the weights that their names stand for."""
    shapes = {name: torch_names.torch_shape(variable) for name, variable in names.items()}
    torch_names.assign(names, _drawn(golden, shapes), golden.file)


def _collect(method: DeskPro, arrays: Weights) -> dict[str, np.ndarray]:
    return torch_names.collect(weights.names(method.model(arrays)))


def _jitted(module: nnx.Module, **options):
    """The module as a jitted function that leaves it as it is."""
    graph, state = nnx.split(module)
    return jax.jit(lambda x: nnx.merge(graph, state, copy=True)(x, **options))


def _statistics(array: np.ndarray) -> np.ndarray:
    """Mean, deviation and norm; NaN of nothing."""
    array = np.asarray(array, np.float64)
    if not array.size:
        return np.full(3, np.nan)
    return np.array([array.mean(), array.std(), np.linalg.norm(array)])


def _rows_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """`group_error` of rows; NaN has to be in the same places."""
    known = ~np.isnan(theirs)
    if not np.array_equal(known, ~np.isnan(ours)):
        return np.inf
    rows = np.flatnonzero(known.all(axis=1))
    return group_error({i: ours[i] for i in rows}, {i: theirs[i] for i in rows}, floor=_FLOOR)


def _nhwc(array: np.ndarray) -> jax.Array:
    return jnp.asarray(array).transpose(0, 2, 3, 1)


def _nchw(array: jax.Array) -> np.ndarray:
    return np.asarray(array).transpose(0, 3, 1, 2)
