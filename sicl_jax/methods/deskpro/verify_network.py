"""DeskPro's networks and their modules, and the weights that golden files stand for."""

import functools
import math
import zlib
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from sicl_jax import config as configs
from sicl_jax.data import augment
from sicl_jax.evaluation import FeatureSet, rules
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.ranking import rank
from sicl_jax.methods.deskpro import weights
from sicl_jax.methods.deskpro.method import DeskPro
from sicl_jax.methods.deskpro.model import DeskProModel, SpatialAttention
from sicl_jax.methods.state import Batch, Weights
from sicl_jax.models.lmbn import NUM_HEADS, Head, drop_rows, flatten_columns, unit_columns
from sicl_jax.models.osnet import Block
from sicl_jax.verify import Check, Golden
from sicl_jax.verify.checks import Arrays, relative_error
from sicl_jax.verify.networks import Pass, nchw, nhwc, trained
from sicl_jax.weights import lmbn, osnet, torch_names

OUTPUT = 1e-4
COUNTER = "num_batches_tracked"
_LOSS = 1e-5
_CHUNK = 6  # Images of the embedding's program: as many as those of a training step.


def check_full_size(golden: Golden) -> Iterator[Check]:
    """The published size: names, shapes and what is trained; both networks and the teacher."""
    evaluator = evaluator_of(golden)
    model = evaluator.filled(golden)
    names = weights.names(model)
    theirs = {n: a.shape for n, a in drawn(golden).items()}
    apart = {name: torch_names.torch_shape(v) for name, v in names.items()}.items() ^ theirs.items()
    yield golden.verdict("parameter_names, parameter_shapes", len(apart), 0.0)
    # Published optimisers hold what gets no gradient too: the teacher and the unused streams.
    held = trained(names).keys()
    unused = {
        name
        for name in names
        if (name.startswith(f"{lmbn.TEACHER}.") or ".conv2b." in name)
        and not name.endswith(("running_mean", "running_var"))
        and not (".reduction" in name and name.endswith("bn.bias"))
    }
    apart = (held | unused) ^ set(map(str, golden["trainable"]))
    yield golden.verdict("trainable", len(apart), 0.0)
    columns, _, teacher = evaluator(Weights.of(model), pixels_of(golden))
    yield golden.check("eval_output", columns, OUTPUT)
    yield golden.check("eval_teacher_output", teacher, OUTPUT)


def check_embedding(golden: Golden) -> Iterator[Check]:
    """Embeddings and distances with the mirrored view, and as released, where faces are missing."""
    evaluator = evaluator_of(golden)
    state = Weights.of(evaluator.filled(golden))
    pixels = pixels_of(golden)
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
    queries, half = int(golden["num_query"]), rows.shape[1] // 2
    for name, ours in (("embedding", rows), ("distance", 1 - rows[:queries] @ rows[queries:].T)):
        theirs = golden.expected(f"{kind}_{name}")
        apart = np.count_nonzero(np.isnan(ours) != np.isnan(theirs))
        yield golden.verdict(f"{kind}_{name}: NaN", apart, 0.0)
        error = relative_error(np.nan_to_num(ours), np.nan_to_num(theirs))
        yield golden.verdict(f"{kind}_{name}", error, OUTPUT)
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
        yield golden.check(f"{kind}_{stream}_nan_as_zero", figures, OUTPUT)


class Evaluator:
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
        fill(golden, weights.names(model))
        return model


def config_of(golden: Golden, fields: Mapping[str, str] | None = None) -> ml_collections.ConfigDict:
    """The released method, of a file's sizes, with further fields as the file has them."""
    sizes = {"model.blocks": "layers", "model.channels": "channels", "model.features": "feats"}
    config = golden.fields("deskpro", sizes | dict(fields or {}))
    config.compat = config.model.streams = "released"
    return config


def evaluator_of(golden: Golden) -> Evaluator:
    """The test's program for a file; files of one size share it."""
    config = config_of(golden)
    sizes = (int(golden["num_classes"]), golden.dtype == np.float64)
    return _evaluator_of(configs.to_json(config), *sizes)


@functools.lru_cache(maxsize=4)
def _evaluator_of(config: str, classes: int, float64: bool) -> Evaluator:
    del float64  # Programs of another type are others.
    return Evaluator(DeskPro(configs.from_json(config), {"classes": classes}))


def pixels_of(golden: Golden) -> dict[str, np.ndarray]:
    """Pictures as bytes; the face stands for a restored one where the file has none."""
    names = {"image": "images", "face": "lr_faces", "restored": "hr_faces"}
    if "hr_faces" not in golden:
        names["restored"] = "lr_faces"
    return {role: golden[name].transpose(0, 2, 3, 1) for role, name in names.items()}


def drawn(golden: Golden) -> dict[str, np.ndarray]:
    """The weights that a file's names stand for; counters are left out."""
    arrays = golden.drawn(functools.partial(_weight, int(golden["weights_seed"])))
    return {name: array for name, array in arrays.items() if not name.endswith(COUNTER)}


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


def fill(golden: Golden, names: torch_names.Names) -> None:
    """Gives variables the weights that their names stand for."""
    seed = int(golden["weights_seed"])
    arrays = {
        name: golden.as_input(name, _weight(seed, name, torch_names.torch_shape(entry)))
        for name, entry in names.items()
    }
    torch_names.assign(names, arrays, golden.file)


def check_modules(golden: Golden) -> Iterator[Check]:
    """OSNet's block in both modes, the drop of rows, the attention, and a head."""
    for kind in ("same", "wider"):
        yield from _check_block(golden, f"block_{kind}")
    for name in sorted(golden.with_prefix("drop_input_"), key=int):
        dropped = jax.jit(drop_rows)(nhwc(golden[f"drop_input_{name}"]))
        yield golden.check(f"drop_output_{name}", nchw(dropped), _LOSS)

    x = nhwc(golden["attention_input"])
    attention = nnx.eval_shape(lambda: SpatialAttention(x.shape[-1]))
    names = {f"attention.conv{i}.weight": getattr(attention, f"conv{i}").kernel for i in (1, 2)}
    fill(golden, names)
    yield golden.check("attention_output", nchw(_jitted(attention)(x)), _LOSS)

    x, logits = jnp.asarray(golden["neck_input"][:, :, 0, 0]), golden.expected("neck_logits")
    features = golden.expected("neck_before").shape[1]
    head = nnx.eval_shape(lambda: Head(x.shape[1], features, logits.shape[1]))
    fill(golden, lmbn.head("reduction.neck", head))
    found = _jitted(head, train=True)(x)
    for name, array in zip(("logits", "before", "after"), found, strict=True):
        yield golden.check(f"neck_{name}", array, _LOSS)


def _check_block(golden: Golden, name: str) -> Iterator[Check]:
    sizes = [golden.expected(f"{name}_{part}").shape[1] for part in ("input", "cotangent")]
    block = nnx.eval_shape(lambda: Block(*sizes, streams="released"))
    fill(golden, osnet.block(name, block))
    found = _jitted(block, train=False)(nhwc(golden[f"{name}_input"]))
    yield golden.check(f"{name}_eval", nchw(found), _LOSS)

    def weighted(block, x, cotangent):
        y = block(x, train=True)
        return jnp.sum(y * cotangent), y

    run = Pass(block, functools.partial(osnet.block, name), weighted, argnums=(0, 1))

    def compute(golden: Golden) -> Arrays:
        fill(golden, osnet.block(name, block))
        found = run(block, *(nhwc(golden[f"{name}_{part}"]) for part in ("input", "cotangent")))
        listed = golden.with_prefix(f"{name}_after_")
        return {
            f"{name}_train": nchw(found.outputs),
            f"{name}_grad_input": nchw(found.of_input),
            f"{name}_after_*": {rest: found.after[f"{name}.{rest}"] for rest in listed},
            f"{name}_grad_conv2a": found.gradients[f"{name}.conv2a.conv2.weight"],
            f"{name}_grad_gate_fc1": found.gradients[f"{name}.gate.fc1.weight"],
        }

    gradients = [f"{name}_grad_{of}" for of in ("input", "conv2a", "gate_fc1")]
    tolerances = dict.fromkeys((f"{name}_train", f"{name}_after_*"), _LOSS)
    tolerances |= dict.fromkeys(gradients, OUTPUT)
    yield from golden.check_controlled(compute, tolerances, direct=tolerances)


def _jitted(module: nnx.Module, **options):
    """The module as a jitted function that leaves it as it is."""
    graph, state = nnx.split(module)
    return jax.jit(lambda x: nnx.merge(graph, state, copy=True)(x, **options))
