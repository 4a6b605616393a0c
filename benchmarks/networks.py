"""What the benchmarks of training know of each method: its bare networks, on random inputs."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from sicl_jax.data.dataset import Split
from sicl_jax.memory import padded_clusters
from sicl_jax.methods.base import Method
from sicl_jax.methods.cclnet import losses
from sicl_jax.methods.source import begin
from sicl_jax.methods.state import TrainState

_BLACK = np.uint8(0)


def random_split(method: Method, count: int, *, per_identity: int = 8, noise: bool = True) -> Split:
    """Noise in the shape of a training split, with every label that there is.

    Args:
        method: Whose columns it has.
        count: Images.
        per_identity: Images of each made-up person.
        noise: False gives black pictures that take no memory: enough where shapes are wanted.
    """
    rng = np.random.default_rng(0)
    rows = np.arange(count, dtype=np.int32)
    labels = {
        "identity": rows // per_identity,
        "camera": rows % 3,
        "clothes": rows // 4,
        "tracklet": rows // 4,
        "modality": rows // per_identity % 2,
    }
    pixels = {}
    for name, form in method.forms.items():
        shape = (count, *form.shape)
        drawn = rng.integers(0, 256, shape, np.uint8) if noise else np.broadcast_to(_BLACK, shape)
        pixels[name] = drawn if form.mode == "rgb" or not noise else (drawn > 127) * np.uint8(255)
        labels[f"has_{name}"] = np.ones(count, np.int32)
    return Split(pixels, labels, tuple(map(str, rows)))


def begun(method: Method, data: Split) -> tuple[Method, TrainState]:
    """The method in the sizes of the data and a run with made-up pseudo-labels where it has any."""
    method = method.sized(method.measure(data, None))
    state = begin(method, data, method.config.seed)
    if hasattr(method, "with_labels"):
        state = method.with_labels(state, data.labels["identity"], epoch=1)
    if method.name == "cclnet":
        state = dataclasses.replace(state, memory=_cross_modal_memory(method, data))
    return method, state


def _cross_modal_memory(method: Method, data: Split):
    """Every person a cluster of the modality that all of its images have."""
    modality = data.labels["modality"]
    people = [np.unique(data.labels["identity"][modality == number]) for number in (0, 1)]
    order = np.concatenate(people)
    labels = np.argsort(order)[np.searchsorted(np.sort(order), data.labels["identity"])]
    features = np.random.default_rng(0).normal(size=(len(data), method.num_features))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return method.memory_of(labels.astype(np.int32), len(people[0]), features.astype(np.float32))


def without_host(method: Method, state: TrainState, clusters: int) -> TrainState:
    """A state's structure for a program that is compiled for devices that are not there.

    CCLNet's memories have room for so many clusters of each modality, as in an epoch, and the host,
    which such a program cannot call, matches none.
    """
    if method.name != "cclnet":
        return state
    losses.matched = lambda visible, *_: jnp.full(len(visible), -1, jnp.int32)
    size = padded_clusters(clusters, len(state.memory.labels))

    def sized(leaf):
        return jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype, sharding=leaf.sharding)

    memory = state.memory
    rows, counts = jax.tree.map(sized, (memory.rows, memory.counts))
    return dataclasses.replace(state, memory=dataclasses.replace(memory, rows=rows, counts=counts))


def inputs(method: Method, batch_size: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a batch of normalised pictures, by column; masks have three channels too."""
    return {name: (batch_size, *form.size, 3) for name, form in method.forms.items()}


def forward(method: Method, model, images: Mapping[str, jax.Array]) -> list[jax.Array]:
    """All outputs of a method's networks in training mode."""
    return _FORWARD[method.name](model, images)


def _sicl(model, images):
    streams = {"image": model.rgb, "mask": model.silhouette}
    codes = [streams[name](array, train=True) for name, array in images.items()]
    return [output for code in codes for output in (code.feature, code.projection)]


def _cssc(model, images):
    heads = model(images["image"]).values()
    return [output for head in heads for output in (head.feature, head.logits)]


def _deskpro(model, images):
    body, attention = model.body.attend(images["image"], train=True)
    student = model.student(images["face"], train=True)
    teacher = model.teacher(images["face_restored"], train=False)
    outputs = [part for heads in (body, student) for part in (heads.logits, heads.features)]
    return [*outputs, attention, teacher.logits]


def _lmbn(model, images):
    heads = model(next(iter(images.values())), train=True)
    return [heads.logits, heads.features]


def _osnet(model, images):
    return list(model(images["image"], train=True))


def _cclnet(model, images):
    return [model(images["image"], len(images["image"]) // 2, train=True).feature]


_FORWARD = {
    "cclnet": _cclnet,
    "cssc": _cssc,
    "deskpro": _deskpro,
    "lmbn": _lmbn,
    "osnet": _osnet,
    "sicl": _sicl,
}
