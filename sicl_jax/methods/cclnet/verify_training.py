"""The first steps of CCLNet's three stages, against the golden files (`verify.py` has the rest)."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sicl_jax import clustering, devices
from sicl_jax.methods.cclnet import weights as published
from sicl_jax.methods.cclnet.memories import MODALITIES, Described, PromptMemory
from sicl_jax.methods.cclnet.method import CclNet
from sicl_jax.methods.cclnet.verify_network import (
    CHANGE,
    GRADIENT,
    LATER,
    OUTPUT,
    PAIR,
    SCHEDULE,
    drawn,
    images_of,
    method_of,
    model_of,
    summaries,
)
from sicl_jax.methods.embedder import Embedder
from sicl_jax.methods.state import TrainState, Weights
from sicl_jax.verify import Check, Golden, networks
from sicl_jax.verify.checks import array_errors, norm_error, relative_error
from sicl_jax.verify.files import Arrays
from sicl_jax.weights import torch_names

_ROUNDING_ALONE = "attnpool.k_proj.bias"  # Its gradient is 0 but for rounding, which Adam scales.


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


_BEFORE_ADAM = (OUTPUT, GRADIENT, SCHEDULE)  # Tolerances of what no optimiser precedes.
_FINALS = {"final:*": LATER, "final:* less the drawn (norm)": CHANGE}
_STAGE1 = {
    "losses of the first step": OUTPUT,
    "losses": LATER,
    "learning_rate": SCHEDULE,
    "grad:*": GRADIENT,
    **_FINALS,
    **dict.fromkeys(("final_text_rgb", "final_text_ir"), LATER),
}


def check_stage1(golden: Golden) -> Iterator[Check]:
    """Three steps of the prompts, the last batch a smaller one."""
    method = method_of(golden, golden.beside("stage2"), **_constant_rate(golden))
    compute = Training(golden, method, 1)
    yield from _check_steps(golden, compute, _STAGE1)


def _check_steps(golden: Golden, compute: "Training", tolerances: Mapping[str, float]):
    errors = _training_errors(drawn(golden))
    direct = [quantity for quantity, of in tolerances.items() if of in _BEFORE_ADAM]
    yield from golden.check_controlled(compute, tolerances, errors=errors, direct=direct)


def _training_errors(initial: Mapping[str, np.ndarray]):
    """Errors of a training's quantities; finals are measured apart from what they began as too."""

    def errors(actual: Arrays, expected: Arrays) -> dict[str, float]:
        found = array_errors(actual, expected)
        for name in ("losses", "step_features", "step_projections"):
            if name in actual:
                first = relative_error(actual[name][0], expected[name][0])
                found[f"{name} of the first step"] = first
        ours, theirs = actual["final:*"], expected["final:*"]
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
        self._done: dict[int | None, Arrays] = {}
        self._embedder = Embedder(method, flip=False)

        @jax.jit
        def step(state, images, indexes, flips):
            def objective(model, memory):
                if stage == 1:
                    return method.prompt_loss(model, memory, indexes)
                with networks.flipped(flips):
                    return method.objective(model, memory, images, indexes, state.clock)

            if stage == 1:
                return (*method.step(state, objective), ())
            encoding = method.model(state.weights)(images, len(images) // 2, train=True)
            return (*method.step(state, objective), encoding)

        self._step = step
        self._kinks = networks.Kinks(lambda model, x: model(x, len(x) // 2, train=True))

    def __call__(self, golden: Golden) -> Arrays:
        """Losses, outputs, gradients of the first step, and what the last one leaves."""
        if golden.seed not in self._done:
            self._done[golden.seed] = self._run(golden)
        return self._done[golden.seed]

    def _run(self, golden: Golden) -> Arrays:
        method, stage = self._method, self._stage
        initial = drawn(golden)
        model = model_of(golden, method)
        weights = devices.put_replicated(Weights.of(model))
        results, memory, batches = self._start(golden, weights)
        state, metrics, encodings = method.start(weights, memory, stage=stage), [], []
        images = None
        if stage != 1:
            source = golden if "images_rgb" in golden else self._images
            images = jnp.concatenate([images_of(source, modality) for modality in PAIR])
        for number, rows in enumerate(batches):
            pixels = () if images is None else images[np.maximum(rows, 0)]
            flips = None
            if number == 0 and images is not None:
                flips = self._kinks.places(golden.flips, model, pixels)
            before = state
            state, figures, encoding = self._step(state, pixels, jnp.asarray(rows), flips)
            metrics.append(figures)
            encodings.append(encoding)
            if number == 0:
                moved = networks.first_gradients(method, before, state)
                gradients = torch_names.collect(published.names(moved))
        final = initial | torch_names.collect(published.names(method.model(state.weights)))
        names = golden.with_prefix("grad:")
        results |= {
            "grad:*": {name: gradients[name] for name in names},
            "final:*": {name: final[name] for name in golden.with_prefix("final:")},
            "learning_rate": metrics[0]["learning_rate"],
        }
        if stage == 1:
            results["losses"] = np.array([float(each["loss"]) for each in metrics])
            for modality, texts in zip(PAIR, self._describe(state.weights), strict=True):
                results[f"final_text_{modality}"] = texts
            return results
        results |= self._of_clusters(golden, state, metrics, encodings)
        moved = [name for name in initial if not name.endswith(_ROUNDING_ALONE)]
        places = np.isin(golden["parameter_names"], moved)
        change = [np.linalg.norm(np.float64(final[n]) - initial[n]) for n in initial]
        stats = summaries(final, golden["parameter_names"])
        of_gradients = summaries(gradients, golden["gradient_names"])
        return results | {
            "change_norm": np.where(places, change, golden.expected("change_norm")),
            "final_stats": np.stack(list(stats.values())),
            "gradient_stats": np.stack(list(of_gradients.values())),
        }

    def _start(self, golden: Golden, weights: Weights):
        """What precedes the steps: results, the memory, and the rows of every batch."""
        if self._stage == 1:
            labels = [golden[f"labels_{modality}"] for modality in PAIR]
            projections = np.concatenate([golden[f"features_{modality}"] for modality in PAIR])
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
        images = [source[f"images_{modality}"] for modality in PAIR]
        sizes = [len(part) for part in images]
        raw = [part if part.ndim == 4 else np.repeat(part[..., None], 3, -1) for part in images]
        columns = {"image": np.concatenate(raw), "modality": np.repeat([0, 1], sizes)}
        features = self._embedder(weights, columns)
        labels = [golden[f"pseudo_labels_{modality}"] for modality in PAIR]
        described: Described | tuple = ()
        results = {}
        if self._stage == 2:
            texts = self._describe(weights)
            results |= {f"text_{m}": each for m, each in zip(PAIR, texts, strict=True)}
            old = [golden[f"old_labels_{modality}"] for modality in PAIR]
            described = Described(*_placed(old), texts)
        placed, first = _placed(labels)
        memory = method.memory_of(np.asarray(placed), int(first), features, described)
        clusters = [int(part.max()) + 1 for part in labels]
        for name, part, rows, count in zip(
            PAIR, np.split(features, [sizes[0]]), memory.rows, clusters, strict=True
        ):
            results |= {f"features_{name}": part, f"memory_{name}": rows[:count]}
        batches = [golden["batches_rgb"], golden["batches_ir"] + sizes[0]]
        return results, memory, np.concatenate(batches, axis=1)

    def _of_clusters(self, golden: Golden, state: TrainState, metrics, encodings) -> Arrays:
        clusters = [int(golden[f"pseudo_labels_{modality}"].max()) + 1 for modality in PAIR]
        final = zip(PAIR, state.memory.rows, clusters, strict=True)
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
_OF_EACH = [f"{name}_{modality}" for name in ("features", "memory") for modality in PAIR]
_CLUSTERS = {
    **dict.fromkeys(_OF_EACH, OUTPUT),
    **dict.fromkeys(("learning_rate", "learning_rate_bias"), SCHEDULE),
    **{
        f"{name}{when}": tolerance
        for name in ("losses", "step_features", "step_projections")
        for when, tolerance in ((" of the first step", OUTPUT), ("", LATER))
    },
    **dict.fromkeys(("grad:*", "gradient_stats"), GRADIENT),
    **_FINALS,
    **dict.fromkeys(("memory_rgb_final", "memory_ir_final", "final_stats"), LATER),
    "change_norm": CHANGE,
    "change_norm: what does not move": 0.0,
}


def check_stage0(golden: Golden) -> Iterator[Check]:
    """`stage0.npz`: an epoch's beginning and its first three steps."""
    yield from _check_clusters(golden, 0, _CLUSTERS)


def check_stage2(golden: Golden) -> Iterator[Check]:
    """`stage2.npz`: likewise, with texts and the exchange of matched clusters."""
    texts = dict.fromkeys(("text_rgb", "text_ir"), OUTPUT)
    similarity = clustering.jaccard_similarity(
        golden["features_rgb"], int(golden["k1"]), int(golden["k2"])
    )
    yield golden.check("jaccard_distance_rgb", 1 - similarity.toarray(), OUTPUT)
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
    features = np.concatenate([results[f"features_{modality}"] for modality in PAIR])
    sizes = [len(golden.expected(f"pseudo_labels_{modality}")) for modality in PAIR]
    found = method.cluster(features, np.repeat([0, 1], sizes))
    for modality, labels in zip(PAIR, np.split(found, [sizes[0]]), strict=True):
        yield golden.check_partition(f"pseudo_labels_{modality}", labels)
    yield from _check_steps(golden, compute, tolerances)
