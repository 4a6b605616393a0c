"""Four steps of a tiny model on made-up data, on however many devices this process sees.

    python tiny_training.py OUT.npz

writes what `train` gives for both feeds, and what a batch of 20 is answered. Imported by the tests
for the same on one device.
"""

import contextlib
import pathlib
import sys

import jax
import numpy as np

from sicl_jax import config as configs
from sicl_jax import devices, methods
from sicl_jax.data.dataset import Split
from sicl_jax.errors import UsageError
from sicl_jax.methods.cclnet.memories import Described
from sicl_jax.methods.cclnet.model import Encoding
from sicl_jax.methods.embedder import columns_of
from sicl_jax.methods.source import Source
from sicl_jax.methods.state import Clock
from sicl_jax.training import feeds, loop, steps

STEPS = 4
IMAGES = 61  # No multiple of eight: rows are padded.
SETTINGS = (
    "data.image_size=(32, 16)",
    "model.block=basic",
    "model.stage_sizes=(1,)",
    "model.width=8",
    "model.pretrained=",
    "epochs=20",
    f"steps_per_epoch={STEPS}",
    "batch_size=16",
)


def make_config(*overrides: str):
    """The published settings on the tiny model."""
    changes = [f"--config.{setting}" for setting in (*SETTINGS, *overrides)]
    return configs.load("sicl_prcc", changes)


def make_data() -> Split:
    """Noise with masks."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 32, 16, 3), np.uint8)
    masks = rng.integers(0, 2, (IMAGES, 32, 16), np.uint8) * np.uint8(255)
    return made_up_split(images, masks)


def made_up_split(images: np.ndarray, masks: np.ndarray) -> Split:
    """Images with masks, of three cameras."""
    count = len(images)
    labels = {
        "camera": np.arange(count, dtype=np.int32) % 3,
        "has_mask": np.ones(count, np.int32),
    }
    return Split({"image": images, "mask": masks}, labels, ("",) * count)


def start(config, data: Split):
    """The method, and its state with pseudo-labels of four images and neighbours."""
    method = methods.create(config)
    source = Source(method, data, 0)
    weights = source.weights()
    state = method.start(weights, method.initial_memory(weights, source))
    labels = np.arange(len(data), dtype=np.int32) // 4
    return method, method.with_labels(state, labels, epoch=config.epochs // 2)


@contextlib.contextmanager
def no_implicit_transfers():
    """Has JAX refuse them on all threads, those of a feed's readers too."""
    jax.config.update("jax_transfer_guard", "disallow")
    try:
        yield
    finally:
        jax.config.update("jax_transfer_guard", "allow")


def train(make_feed) -> dict[str, np.ndarray]:
    """Losses, weights and banks after the steps, and the compiled program."""
    config, data = make_config(), make_data()
    method, state = start(config, data)
    feed = make_feed(columns_of(data, (*method.forms, *method.labels)))
    seed = devices.put_replicated(np.uint32(0))
    batches = method.draw_batches(state, data, 0)
    first = next(feed.calls(batches[:1], 1))
    call = steps.compile_train_call(method, state, feed)
    program = call.lower(state, feed.resident, first, seed).compile()
    losses = []
    with no_implicit_transfers():
        for sent in feed.calls(batches, 1):
            state, metrics = program(state, feed.resident, sent, seed)
            losses.extend(jax.device_get(metrics["loss"]))
    parts = {"params": state.weights.params, "statistics": state.weights.statistics}
    parts |= {f"bank {name}": bank for name, bank in state.memory.banks.items()}
    arrays = {f"{part} {name}": leaf for part in parts for name, leaf in named(parts[part])}
    return arrays | {"losses": np.asarray(losses), "program": np.asarray(program.as_text())}


def named(tree):
    """Pairs of dotted name and host array."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        yield name.removesuffix(".value"), devices.fetch(leaf)


class Linear:
    """Encoders of two matrices, in place of CCLNet's."""

    def __init__(self, weights):
        self.weights = weights

    def __call__(self, images, num_visible, *, train):  # noqa: ARG002
        flat = images.reshape(len(images), -1)
        return Encoding(flat @ self.weights["feature"], flat @ self.weights["projection"])


def cross_modal_step() -> dict[str, np.ndarray]:
    """A late step of CCLNet's last stage but for its encoders: losses, gradients and memories.

    The host matches the clusters; the batch's first half, on the first devices, is visible.
    """
    config = configs.base("cclnet")
    config.model.update({"width": 2, "embed_dim": 8})
    method = methods.create(config)
    rng = np.random.default_rng(0)
    labels = np.arange(48, dtype=np.int32) % 16
    of_sizes = ((48, method.num_features), (8, 8), (8, 8), (16, 4, 4, 3))
    features, *texts, images = (rng.normal(size=size) for size in of_sizes)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    weights = {
        name: rng.normal(size=(48, size)) / 7
        for name, size in (("feature", method.num_features), ("projection", 8))
    }
    described = devices.put_replicated(Described(labels, np.int32(8), tuple(texts)))
    memory = method.memory_of(labels, 8, features, described)
    indexes = np.concatenate([np.flatnonzero(labels < 8)[:8], np.flatnonzero(labels >= 8)[-8:]])

    @jax.jit
    def step(weights, memory, images, indexes, clock):
        def objective(weights):
            return method.objective(Linear(weights), memory, images, indexes, clock)

        return jax.value_and_grad(objective, has_aux=True)(weights)

    clock = Clock.at(0, phase=1)
    given = devices.put_replicated((weights, indexes))
    (_, aux), gradients = step(given[0], memory, devices.put_rows(images), given[1], clock)
    results = aux.metrics | {f"gradient of {name}": array for name, array in gradients.items()}
    results |= {f"memory {number}": rows[:8] for number, rows in enumerate(aux.memory.rows)}
    return {name: devices.fetch(array) for name, array in results.items()}


def answer_to_batch_of_20() -> str:
    """What the loop says before it touches anything."""
    try:
        loop.train(make_config("batch_size=20"), pathlib.Path("never_made"))
    except UsageError as error:
        return str(error)
    return "accepted"


def main() -> None:
    results = {"batch of 20": np.asarray(answer_to_batch_of_20())}
    for feed in (feeds.ResidentFeed, feeds.HostFeed):
        found = train(feed)
        results |= {f"{feed.__name__}/{name}": array for name, array in found.items()}
    results |= {f"cross_modal/{name}": array for name, array in cross_modal_step().items()}
    np.savez(sys.argv[1], **results)


if __name__ == "__main__":
    main()
