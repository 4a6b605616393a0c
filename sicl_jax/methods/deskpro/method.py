"""DeskPro behind the loop's interface (arXiv 2208.12023; docs/methods/deskpro.md).

A body network learns where clothes are, to look past them, and a face network learns from a
teacher that sees better faces. In a test both speak, and for who shows no face the body alone.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from sicl_jax import devices, fields, optimizers
from sicl_jax.data.augment import Draws, apply, draw, normalize, transform_bytes
from sicl_jax.data.dataset import Form, Split
from sicl_jax.errors import UserError
from sicl_jax.fields import Field
from sicl_jax.losses import hard_triplet
from sicl_jax.methods import supervised
from sicl_jax.methods.base import Source
from sicl_jax.methods.deskpro import losses
from sicl_jax.methods.deskpro import weights as published
from sicl_jax.methods.deskpro.model import DeskProModel, Outputs, Pictures
from sicl_jax.methods.lmbn.method import restored_faces
from sicl_jax.methods.state import Aux, Batch, Clock, Stage, TrainState, Weights
from sicl_jax.models.lmbn import NUM_HEADS, flatten_columns, unit_columns
from sicl_jax.weights import lmbn, osnet, torch_names

_LOADERS = 4  # Workers of the published loader, each with one random state for an epoch.
_MASKS_LOOKED_AT = 200
_TAIL_EPOCHS = 500  # Over which the released schedule falls once its cosine has ended.

_STREAMS = {
    "all": ("image", "face", "has_face"),
    "face": ("face", "has_face"),
    "body": ("image",),
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Kept:
    """The best network of a stream so far (section 6).

    Attributes:
        score: Its mAP, rounded to four digits; -1 before the first test.
        step: When that was.
        weights: Its arrays.
    """

    score: jax.Array
    step: jax.Array
    weights: Weights


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DeskProMemory:
    """What DeskPro remembers.

    Attributes:
        identities: (C,) int32, the identity of each class.
        kept: The best student (`face`) and body network (`body`); empty but in mode `all`.
    """

    identities: jax.Array
    kept: dict[str, Kept]


class DeskPro(supervised.WithOSNet):
    """DeskPro behind the loop's interface."""

    name = "deskpro"
    similarity = "dot"
    fields = {
        **supervised.FIELDS,
        "compat": Field(
            "intended",
            fields.one_of("released", "intended"),
            "released repeats what the published code does unmeant: draws shared by a batch, NaN "
            "for who has no face, a teacher that drifts; intended does not.",
        ),
        "forward_mode": Field(
            "all",
            fields.one_of(*_STREAMS),
            "Networks that are trained: face and body, or one of them.",
        ),
        "teacher": Field(
            "", fields.ANYTHING, "The face teacher: workdir of a run of lmbn, or a file of weights."
        ),
        "data.face_size": Field((224, 224), fields.SIZE, "Height and width of faces."),
        "model.features": Field(512, fields.within(1, 4096), "Size of each of 14 features."),
        "model.streams": supervised.FIELDS["model.streams"].but("released"),
        "loss.alpha": Field(
            0.8, fields.SHARE, "Weight of the teacher; the student's cross-entropies have the rest."
        ),
        "loss.temperature": Field(1.0, fields.above_zero(1e6), "T of the teacher's softmax."),
        "loss.attention": Field(7.0, fields.within(0, 1e6), "beta, weight of the attention."),
        "loss.distill": Field(
            True,
            fields.ANYTHING,
            "False leaves the student's cross-entropies whole and the teacher out (released: in).",
        ),
        "loss.cross_entropy": Field(1.0, fields.within(0, 1e6), "Factor of the cross-entropies."),
        "loss.metric": Field(
            "triplet", fields.one_of("triplet", "multi_similarity"), "Loss of the features."
        ),
        "loss.metric_weight": Field(1.0, fields.within(0, 1e6), "Its factor."),
    }

    def __init__(self, config: ml_collections.ConfigDict, sizes: Mapping[str, int] | None = None):
        super().__init__(config, sizes)
        mode = config.forward_mode
        self._face, self._body = mode != "body", mode != "face"
        self.streams = _STREAMS if mode == "all" else {mode: _STREAMS[mode]}
        if self._face:
            self.labels = ("identity", "has_face_restored")

    @property
    def _released(self) -> bool:
        return self.config.compat == "released"

    @property
    def forms(self) -> dict[str, Form]:
        """Image and mask for the body, both faces for student and teacher."""
        data, forms = self.config.data, {}
        if self._body:
            forms["image"] = Form(tuple(data.image_size), data.resize)
            forms["mask"] = Form(tuple(data.image_size), data.resize, mode="keep")
        if self._face:
            forms["face"] = forms["face_restored"] = Form(tuple(data.face_size), data.resize)
        return forms

    @property
    def stages(self) -> tuple[Stage, ...]:
        """One, whose released schedule goes on below its floor when the cosine has ended."""
        if not self._released:
            return super().stages
        optimizer = optimizers.adam(
            functools.partial(released_rate, self.config),
            weight_decay=self.config.optimizer.weight_decay,
        )
        return (Stage("train", self.config.epochs, optimizer),)

    # ---- data ------------------------------------------------------------------------------

    def usable(self, data: Split) -> np.ndarray:
        """Images that have a face and a mask, and a restored face where any image has one."""
        needed = []
        if self._face:
            needed.append("has_face")
            if data.labels["has_face_restored"].any():
                needed.append("has_face_restored")
        if self._body:
            needed.append("has_mask")
        return np.all([data.labels[name] == 1 for name in needed], axis=0)

    def check(self, data: Split) -> list[str]:
        """Refuses data and teachers that cannot be trained with; says what is left out."""
        name, usable = self.config.data.name, self.usable(data)
        for picture in (["face"] if self._face else []) + (["mask"] if self._body else []):
            if not data.labels[f"has_{picture}"].any():
                raise UserError(
                    f"{name}: none of {len(data)} training images has a {picture}; make {picture}s "
                    f"with sicl-jax {picture}s and prepare it with --{picture}s"
                )
        if not usable.any():
            raise UserError(
                f"{name}: no training image has all of face, restored face and mask; are the "
                "folders of the same images?"
            )
        if self._body:
            self._check_masks(data)
        lost = len(np.unique(data.labels["identity"])) - self.measure(data, None)["classes"]
        left_out = (
            f"{np.count_nonzero(~usable)} of {len(data)} training images lack a face, a restored "
            f"face or a mask: left out, and {lost} identities with them"
        )
        try:
            warnings = super().check(data)
        except UserError as error:
            if usable.all():
                raise
            raise type(error)(f"{error} ({left_out})") from error
        if not usable.all():
            warnings.append(f"{name}: {left_out}")
        if self._face and not data.labels["has_face_restored"].any():
            warnings.append(f"{name}: there are no restored faces: the teacher sees the same faces")
        return warnings

    def check_start(self, data: Split, fingerprint: str) -> list[str]:
        """Refuses a config without a teacher, or with one of other identities.

        A run that goes on has the teacher's weights in its checkpoints.

        Raises:
            UserError: There is none, or it does not fit.
        """
        if not self._face:
            return []
        path = self.config.teacher
        if not path:
            if not self.config.model.pretrained or lmbn.is_osnet(self._pretrained):
                raise UserError(
                    "--config.teacher is empty: train a teacher with configs/deskpro_teacher_*.py "
                    "and name its workdir, or train the body alone with "
                    "--config.forward_mode=body"
                )
            return []
        network = self.sized(self.measure(data, None)).abstract_model().teacher
        lmbn.assign_teacher(network, self._teacher.arrays, path)
        identities = supervised.class_identities(data, self.usable(data))
        return self._teacher.check(self.config.data.name, identities, fingerprint)

    def _check_masks(self, data: Split) -> None:
        """Refuses masks that keep persons and shield what is around them.

        Raises:
            UserError: Along the borders of most of the first images nothing is kept, as in
                silhouettes. What the authors' masks hold there is unknown: theirs are taken.
        """
        name = self.config.data.name
        if name.partition("/")[0] == "deskpro":
            return
        masks = data.pixels["mask"][np.flatnonzero(data.labels["has_mask"] == 1)[:_MASKS_LOOKED_AT]]
        borders = [masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]]
        if np.median(np.concatenate(borders, axis=1).mean(axis=1)) < 128:
            raise UserError(
                f"{name}: its masks are silhouettes, which do not say what is clothes; make parts "
                "with sicl-jax masks --keep parts, or give masks of 255 wherever no clothes are"
            )

    @functools.cached_property
    def _teacher(self) -> published.Teacher:
        return published.read_teacher(self.config.teacher, self.config.model.streams)

    @functools.cached_property
    def _pretrained(self) -> dict[str, np.ndarray]:
        return published.read(osnet.find(self.config.model.pretrained, self._shape))

    # ---- weights ---------------------------------------------------------------------------

    def build(self) -> DeskProModel:
        """Student, teacher and body network, as the forward mode wants."""
        model = self.config.model
        return DeskProModel(
            self._shape,
            model.features,
            self.sizes["classes"],
            mode=self.config.forward_mode,
            dtype=devices.compute_dtype(model.dtype),
        )

    def load_pretrained(self, model: DeskProModel, source: str) -> None:
        """The public OSNet's ImageNet file fills all networks, the authors' checkpoint its own."""
        published.assign(model, self._pretrained, source)

    def initial_weights(self, seed: int) -> Weights:
        """Weights drawn anew or published ones, and the teacher's."""
        weights = super().initial_weights(seed)
        if not (self._face and self.config.teacher):
            return weights
        model = self.model(weights)
        lmbn.assign_teacher(model.teacher, self._teacher.arrays, self.config.teacher)
        return Weights.of(model)

    def names(self, model: DeskProModel) -> torch_names.Names:
        """The authors' names."""
        return published.names(model)

    def checkpoint(self, model: DeskProModel, *, epoch: int, steps: int) -> dict[str, Any]:
        """What the authors' training script saves, but for the optimiser."""
        arrays = lmbn.with_repeats(torch_names.collect(self.names(model), num_batches=steps))
        return {"state_dict": {f"model.{n}": a for n, a in arrays.items()}, "epoch": epoch}

    @classmethod
    def recognize(cls, arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
        """A checkpoint of the authors, of any size."""
        return published.recognize(arrays)

    # ---- a step ----------------------------------------------------------------------------

    def initial_memory(self, weights: Weights, source: Source) -> DeskProMemory:
        """The identity of each class; of the best networks only the places."""
        identities = super().initial_memory(weights, source)
        if self.config.forward_mode != "all":
            return DeskProMemory(identities, {})
        return DeskProMemory(
            identities,
            {stream: _kept(-1.0, 0, network) for stream, network in self._parts(weights).items()},
        )

    def _parts(self, weights: Weights) -> dict[str, Weights]:
        """The arrays of the networks that are tested, by stream."""
        model = self.model(weights)
        return {"face": Weights.of(model.student), "body": Weights.of(model.body)}

    def loss(
        self,
        model: DeskProModel,
        memory: DeskProMemory,
        batch: Batch,
        key: jax.Array,
        clock: Clock,
    ) -> tuple[jax.Array, Aux]:
        """Augments the pictures of a sample alike, and computes the loss."""
        size = len(batch.indexes)
        draws = self._shared_draws(size, clock) if self._released else None
        draws = draws or draw(key, size, self._augment)
        pictures = self._augmented(draws, batch)
        outputs = self.run(model, pictures)
        return self.objective(outputs, pictures.mask, self.classes(memory.identities, batch))

    def _shared_draws(self, size: int, clock: Clock) -> Draws:
        """The released loader's draws: one for a batch, the same for all of a worker's epoch."""
        worker = (clock.step - clock.first_step) % _LOADERS
        key = jax.random.key(self.config.seed)
        key = jax.random.fold_in(jax.random.fold_in(key, clock.epoch), worker)
        one = draw(key, 1, self._augment)
        return jax.tree.map(lambda d: jnp.broadcast_to(d, (size, *d.shape[1:])), one)

    def _augmented(self, draws: Draws, batch: Batch) -> Pictures:
        pictures: dict[str, jax.Array] = {}
        if self._body:
            pictures["image"] = apply(draws, batch.pixels["image"], self._augment)
            mask = transform_bytes(draws, batch.pixels["mask"], self._augment)
            pictures["mask"] = mask.astype(float) / 255
        if self._face:
            pictures["face"] = apply(draws, batch.pixels["face"], self._augment)
            pictures["restored"] = apply(draws, restored_faces(batch), self._augment)
        return Pictures(**pictures)

    def run(self, model: DeskProModel, pictures: Pictures) -> Outputs:
        """The networks of the forward mode in training mode, on normalised pictures."""
        student = teacher = body = attention = None
        if self._face:
            student = model.student(pictures.face, train=True)
            teacher = model.teacher(pictures.restored, train=self._released)
        if self._body:
            body, attention = model.body.attend(pictures.image, train=True)
        return Outputs(student, teacher, body, attention)

    def objective(
        self, outputs: Outputs, mask: jax.Array | None, classes: jax.Array
    ) -> tuple[jax.Array, Aux]:
        """The loss (section 4) of what the networks gave.

        Args:
            outputs: Of those that the forward mode trains; others are passed over.
            mask: (B, H, W), 1 what is to be kept; None where there is no body.
            classes: (B,) int32.

        Returns:
            The loss; beside it its terms.
        """
        settings, terms = self.config.loss, {}
        heads = [outputs.student] * self._face + [outputs.body] * self._body
        terms["identification"] = loss = losses.identification(
            jnp.concatenate([head.logits for head in heads]),
            jnp.concatenate([head.features for head in heads]),
            classes,
            weights=self._head_weights(),
            metric=self._metric,
            factors=(settings.cross_entropy, settings.metric_weight),
            smoothing=settings.smoothing,
        )
        if self._face:
            terms["distillation"] = losses.taught(
                outputs.teacher.logits, outputs.student.logits, settings.temperature
            )
            if settings.distill or self._released:
                loss = loss + settings.alpha * terms["distillation"]
        if self._body:
            terms["attention"] = losses.attention_loss(outputs.attention, mask)
            loss = loss + settings.attention * terms["attention"]
        return loss, Aux(metrics=terms)

    def _head_weights(self) -> list[float]:
        """w_k: the student's heads share theirs with the teacher; released: the first seven."""
        taught = self.config.loss.distill and (self._face or self._released)
        first = 1 - self.config.loss.alpha if taught else 1.0
        return [first] * NUM_HEADS + [1.0] * NUM_HEADS * (self._face and self._body)

    def _metric(self, features: jax.Array, classes: jax.Array) -> jax.Array:
        margin = self.config.loss.margin
        if self.config.loss.metric == "triplet":
            return hard_triplet(features, classes, margin)
        return losses.multi_similarity(features, classes, margin=margin, compat=self.config.compat)

    # ---- a test ----------------------------------------------------------------------------

    @property
    def tested(self) -> tuple[str, ...]:
        """Every stream."""
        return tuple(self.streams)

    def after_test(
        self, state: TrainState, scores: Mapping[str, float]
    ) -> tuple[TrainState, dict[str, int]]:
        """Keeps a network that no earlier one beats; `all` is tested with those that are kept.

        Untrained ones are not kept, however bad the others are.
        """
        if not int(state.clock.step):
            return state, {}
        kept, networks = dict(state.memory.kept), self._parts(state.weights)
        for stream, before in state.memory.kept.items():
            score = round(scores[stream], 4)
            if score >= float(before.score):
                kept[stream] = _kept(score, int(state.clock.step), networks[stream])
        memory = dataclasses.replace(state.memory, kept=kept)
        steps = {stream: int(network.step) for stream, network in kept.items()}
        return dataclasses.replace(state, memory=memory), steps

    def abstract_kept(self) -> dict[str, Kept] | None:
        """Networks by stream, in mode `all`."""
        if self.config.forward_mode != "all":
            return None
        score, step = jax.ShapeDtypeStruct((), np.float32), jax.ShapeDtypeStruct((), np.int32)
        model = self.abstract_model()
        return {
            "face": Kept(score, step, Weights.of(model.student)),
            "body": Kept(score, step, Weights.of(model.body)),
        }

    def served(self, weights: Weights, kept: dict[str, Kept] | None) -> Weights:
        """The weights with the best networks of earlier tests in their places."""
        if not kept or any(float(network.score) < 0 for network in kept.values()):
            return weights
        model = self.model(weights)
        for stream, network in (("face", model.student), ("body", model.body)):
            best = kept[stream].weights
            nnx.update(network, best.params, best.frozen, best.statistics)
        return Weights.of(model)

    def embed(self, model: DeskProModel, batch: Batch, stream: str) -> jax.Array:
        """Columns of the student, then of the body; zeros for a missing face (section 6)."""
        columns = []
        if stream != "body":
            has_face = batch.labels["has_face"] == 1
            face = jnp.where(has_face[:, None, None, None], normalize(batch.pixels["face"]), 0)
            embedding = model.student(face, train=False).embedding
            columns.append(jnp.where(has_face[:, None, None], embedding, 0))
        if stream != "face":
            columns.append(model.body(normalize(batch.pixels["image"]), train=False).embedding)
        return flatten_columns(jnp.concatenate(columns, axis=-1))

    def normalize(self, features: jax.Array, stream: str) -> jax.Array:
        """Unit columns; a missing face's stay zero, or are 0 / 0 as released."""
        columns = NUM_HEADS * (2 if stream == "all" else 1)
        return unit_columns(features, columns, zeros_stay=not self._released)


def _kept(score: float, step: int, weights: Weights) -> Kept:
    """A network in arrays of its own: a step gives its state's arrays away."""
    figures = devices.put_replicated((np.float32(score), np.int32(step)))
    return Kept(*figures, jax.tree.map(jnp.copy, weights))


def released_rate(config: ml_collections.ConfigDict, epoch: jax.Array) -> jax.Array:
    """The released learning rate at an epoch, () float: where the cosine has ended it goes on.

    lr(e) = m + (lr(E) - m) (1 - (e - E) / 500), E the epoch after the cosine's last, where the
    cosine has passed its floor m and risen again.
    """
    settings, base = config.schedule, config.optimizer.learning_rate
    floor, end = base * settings.floor, settings.end + 1
    progress = (end - settings.start) / (settings.end - settings.start)
    risen = (base - floor) * (1 + np.cos(np.pi * progress)) / 2
    tail = floor + risen * (1 - (epoch - end) / _TAIL_EPOCHS)
    return jnp.where(epoch < end, base * optimizers.schedule(settings)(epoch), tail)
