"""Makes the network `drawn-people` again, from nothing: docs/drawn_people.md is its card.

    python benchmarks/drawn_people_network.py --workdir runs/drawn_people [--config.FIELD=VALUE]...

Draws the people of `synthetic_people/many_outfits` and trains an encoder to tell them apart, with
labels. Writes WORKDIR/drawn_people.safetensors; what the package ships is that file, made on one
core. A workdir is gone on with, not begun again.
"""

import argparse
import hashlib
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import safetensors.numpy
from flax import nnx

from sicl_jax import config as configs
from sicl_jax import fields
from sicl_jax.data.augment import AugmentConfig, augment, normalize
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.fields import Field
from sicl_jax.inference import load_run
from sicl_jax.losses import cross_entropy
from sicl_jax.methods.base import Method
from sicl_jax.methods.state import Aux
from sicl_jax.models.encoder import Encoder
from sicl_jax.models.layers import Linear, Normal, l2_normalize
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.register import METHODS
from sicl_jax.training import loop
from sicl_jax.weights import torch_names, torchvision


class Classifier(nnx.Module):
    """An encoder, and a direction for each person that its features are compared with."""

    def __init__(self, config: ResNetConfig, classes: int):
        self.encoder = Encoder(config)
        self.people = Linear(config.num_features, classes, init=Normal(0.01))


class DrawnPeople(Method):
    """Cross-entropy over the cosines of a feature and the people's directions."""

    name = "drawn_people"
    fields = {
        **fields.RESNET,
        **fields.AUGMENT,
        "loss.scale": Field(16.0, fields.above_zero(1e6), "Factor of the cosines."),
    }
    labels = ("identity",)

    def measure(self, data, state):
        """People, each a class; they are numbered from 0 without gaps."""
        del state
        return {"classes": len(np.unique(data.labels["identity"]))}

    def build(self):
        """The network."""
        model = self.config.model
        shape = ResNetConfig(model.block, tuple(model.stage_sizes), model.width, model.last_stride)
        return Classifier(shape, self.sizes["classes"])

    def draw_batches(self, state, data, epoch):
        """All images in random order, less what does not fill a batch."""
        del state
        rng = np.random.default_rng((self.config.seed, epoch))
        size = self.config.batch_size
        order = rng.permutation(len(data)).astype(np.int32)
        return order[: len(data) // size * size].reshape(-1, size)

    def loss(self, model, memory, batch, key, clock) -> tuple[jax.Array, Aux]:
        """Cross-entropy of augmented images, and the share of them that is told right."""
        del memory, clock
        images = augment(key, batch.pixels["image"], AugmentConfig(**self.config.augment))
        pooled = model.encoder.pool(images, train=True)
        feature = model.encoder.feature(pooled, train=True)
        directions = l2_normalize(model.people.kernel[...].T)
        logits = self.config.loss.scale * jnp.matmul(feature, directions.T)
        people = batch.labels["identity"]
        right = jnp.mean(jnp.argmax(logits, axis=1) == people)
        return cross_entropy(logits, people), Aux(metrics={"right": right})

    def embed(self, model, batch, stream):
        """The encoder's feature."""
        del stream
        return model.encoder.embed(normalize(batch.pixels["image"]))


def get_config() -> ml_collections.ConfigDict:
    """The demo's shape of network, and a rate that falls to nothing."""
    config = configs.base(DrawnPeople.name)
    config.update_from_flattened_dict(torchvision.DRAWN_PEOPLE_FIELDS)
    config.data.name = "synthetic_people/many_outfits"
    config.augment.pad = 5
    config.augment.erase = 0.0
    config.augment.grey = 0.2
    config.optimizer.learning_rate = 3e-3
    config.schedule.name = "cosine"
    config.schedule.unit = "step"
    config.schedule.end = 10
    config.epochs = 10
    config.evaluate.every = 1
    return config


def make(workdir: pathlib.Path, overrides: Sequence[str] = ()) -> pathlib.Path:
    """Draws the people, where that has not been done, and trains the network.

    Args:
        workdir: Where the run goes and, unless `data.dir` is overridden, the people.
        overrides: Changes of the config, `--config.FIELD=VALUE`.

    Returns:
        The file that it writes.
    """
    METHODS.register(DrawnPeople.name, DrawnPeople)
    config = configs.load(__file__, [f"--config.data.dir={workdir / 'data'}", *overrides])
    prepare(Request(config.data.name, pathlib.Path(config.data.dir)))
    loop.train(config, workdir / "run")
    model = load_run(workdir / "run", "latest")
    encoder = model.method.model(model.weights).encoder
    arrays = torch_names.collect(torchvision.encoder_names(encoder), num_batches=model.step)
    file = workdir / "drawn_people.safetensors"
    safetensors.numpy.save_file(arrays, file)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    arguments, overrides = parser.parse_known_args()
    file = make(arguments.workdir, overrides)
    print(f"wrote {file}, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
