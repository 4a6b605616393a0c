"""Makes the networks `drawn-people` again, from nothing: docs/drawn_people.md is their card.

    python benchmarks/drawn_people_network.py --workdir runs/drawn_people
        [--config benchmarks/drawn_people_clip.py] [--config.FIELD=VALUE]...

Draws the people of `synthetic_people/many_outfits` and trains an encoder to tell them apart, with
labels: a ResNet, or by the other config a CLIP, whose texts name them too. Writes the file that the
package ships, made on one core, into WORKDIR. A workdir is gone on with, not begun again.
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
from sicl_jax.fields import COMMON, Field
from sicl_jax.inference import load_run
from sicl_jax.losses import cross_entropy
from sicl_jax.methods.base import Method
from sicl_jax.methods.cclnet import CclNet
from sicl_jax.methods.cclnet import weights as published
from sicl_jax.methods.cclnet.losses import contrast
from sicl_jax.methods.cclnet.model import CrossModalModel, Prompts, PromptShape
from sicl_jax.methods.state import Aux
from sicl_jax.models.clip import ClipConfig
from sicl_jax.models.encoder import Encoder
from sicl_jax.models.layers import Linear, Normal, l2_normalize
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.register import METHODS
from sicl_jax.training import loop
from sicl_jax.weights import drawn_people, torch_names, torchvision


class Classifier(nnx.Module):
    """An encoder, and a direction for each person that its features are compared with."""

    def __init__(self, config: ResNetConfig, classes: int):
        self.encoder = Encoder(config)
        self.people = Linear(config.num_features, classes, init=Normal(0.01))


class CaptionedClassifier(nnx.Module):
    """A CLIP, and for each person a direction of features and the learned words of a caption.

    Its two stems are one, and so are the fixed words of captions and of visible images' prompts.
    """

    def __init__(self, config: ClipConfig, image_size: tuple[int, int], classes: int):
        self.encoder = CrossModalModel(config, image_size=image_size)
        self.encoder.infrared = self.encoder.visible
        self.people = Linear(config.num_features, classes, init=Normal(0.01))
        self.captions = Prompts(classes, PromptShape(), config)
        self.captions.start = self.encoder.visible_prompts.start
        self.captions.end = self.encoder.visible_prompts.end


class DrawnPeople(Method):
    """Cross-entropy over the cosines of a feature and the people's directions."""

    name = "drawn_people"
    network = drawn_people.RESNET
    fields = {
        **fields.RESNET,
        **fields.AUGMENT,
        "data.name": COMMON["data.name"].but("synthetic_people/many_outfits"),
        "augment.pad": fields.AUGMENT["augment.pad"].but(5),
        "augment.erase": fields.AUGMENT["augment.erase"].but(0.0),
        "augment.grey": fields.AUGMENT["augment.grey"].but(0.2),
        "optimizer.learning_rate": COMMON["optimizer.learning_rate"].but(3e-3),
        "schedule.name": COMMON["schedule.name"].but("cosine"),
        "schedule.unit": COMMON["schedule.unit"].but("step"),
        "schedule.end": COMMON["schedule.end"].but(10),
        "epochs": COMMON["epochs"].but(10),
        "evaluate.every": COMMON["evaluate.every"].but(1),
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
        people = batch.labels["identity"]
        feature, further = self.encode(model, images, people)
        directions = l2_normalize(model.people.kernel[...].T)
        logits = self.config.loss.scale * jnp.matmul(feature, directions.T)
        right = jnp.mean(jnp.argmax(logits, axis=1) == people)
        loss = cross_entropy(logits, people) + sum(further.values())
        return loss, Aux(metrics={"right": right, **further})

    def encode(self, model, images, people) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Unit features in training mode, and further terms of the loss."""
        del people
        pooled = model.encoder.pool(images, train=True)
        return model.encoder.feature(pooled, train=True), {}

    def embed(self, model, batch, stream):
        """The encoder's feature."""
        del stream
        return model.encoder.embed(normalize(batch.pixels["image"]))

    def arrays(self, model, steps: int) -> dict[str, np.ndarray]:
        """What the package ships of the network after so many steps."""
        names = torchvision.encoder_names(model.encoder)
        return torch_names.collect(names, num_batches=steps)


class DrawnPeopleClip(DrawnPeople):
    """The same of CLIP's feature, and the contrast of its projection with the people's captions."""

    name = "drawn_people_clip"
    network = drawn_people.CLIP
    fields = {
        **{name: of for name, of in DrawnPeople.fields.items() if name not in fields.RESNET},
        **{name: CclNet.fields[name] for name in network.fields if name.startswith("model.")},
        "augment.grey": DrawnPeople.fields["augment.grey"].but(0.5),
    }

    def build(self):
        """The network."""
        size, model = self.config.data.image_size, self.config.model
        return CaptionedClassifier(ClipConfig.of(model), tuple(size), self.sizes["classes"])

    def encode(self, model, images, people):
        """CLIP's loss of both directions, over the batch, beside the feature."""
        encoding = model.encoder(images, len(images) // 2, train=True)
        texts = model.encoder.describe(model.captions, people)
        pairs = ((encoding.projection, texts), (texts, encoding.projection))
        captions = sum(contrast(*pair, people) for pair in pairs)
        return l2_normalize(encoding.feature), {"captions": captions}

    def embed(self, model, batch, stream):
        """The encoder's feature."""
        del stream
        images = normalize(batch.pixels["image"])
        return model.encoder.embed(images, jnp.zeros(len(images), bool))

    def arrays(self, model, steps):
        """Halves, under the names of CCLNet's authors."""
        found = torch_names.collect(published.names(model.encoder), num_batches=steps)
        return {n: a.astype(np.float16) if a.dtype.kind == "f" else a for n, a in found.items()}


def get_config() -> ml_collections.ConfigDict:
    """The ResNet's."""
    config = configs.base(DrawnPeople.name)
    config.update_from_flattened_dict(DrawnPeople.network.fields)
    return config


def make(workdir: pathlib.Path, overrides: Sequence[str] = (), config: str = __file__):
    """Draws the people, where that has not been done, and trains a network.

    Args:
        workdir: Where the run goes and, unless `data.dir` is overridden, the people.
        overrides: Changes of the config, `--config.FIELD=VALUE`.
        config: The network's, a file.

    Returns:
        The path of the file that it writes.
    """
    for method in (DrawnPeople, DrawnPeopleClip):
        METHODS.register(method.name, method)
    config = configs.load(config, [f"--config.data.dir={workdir / 'data'}", *overrides])
    prepare(Request(config.data.name, pathlib.Path(config.data.dir)))
    loop.train(config, workdir / "run")
    model = load_run(workdir / "run", "latest")
    arrays = model.method.arrays(model.method.model(model.weights), model.step)
    file = workdir / model.method.network.file.name
    safetensors.numpy.save_file(arrays, file)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--config", default=__file__)
    arguments, overrides = parser.parse_known_args()
    file = make(arguments.workdir, overrides, arguments.config)
    print(f"wrote {file}, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
