"""A trained model, loaded to be used: features of any images.

    model = sicl_jax.load("runs/demo")
    features = model.embed(["a.jpg", "b.jpg"])  # (2, D) float32, unit rows
    similarity = features @ features.T

A feature is a unit row, so the scalar product of two is their cosine similarity.
"""

import functools
import hashlib
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from sicl_jax import config as configs
from sicl_jax import devices, methods
from sicl_jax.data import pictures
from sicl_jax.data.pictures import Picture
from sicl_jax.errors import UsageError, UserError
from sicl_jax.methods.base import Method
from sicl_jax.methods.embedder import Embedder
from sicl_jax.methods.state import Weights
from sicl_jax.register import METHODS
from sicl_jax.runs import saved, workdir
from sicl_jax.weights import drawn_people
from sicl_jax.weights.torch_files import load_state_dict


class Model:
    """A model that embeds images.

    Attributes:
        config: The experiment that it comes from.
        method: Its method.
        weights: Its arrays, on the devices.
        source: The workdir or the file.
        step: Optimiser steps trained; None for a file.
        epoch: Epochs trained; None for a file.
    """

    def __init__(
        self,
        method: Method,
        weights: Weights,
        source: pathlib.Path,
        checkpoint: saved.Saved | None = None,
    ):
        self.config = method.config
        self.method = method
        self.weights = weights
        self.source = source
        self.step = checkpoint.step if checkpoint else None
        self.epoch = checkpoint.epoch if checkpoint else None

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width that images (faces, if the model sees these alone) are resized to."""
        return self.method.forms[next(iter(self.method.streams.values()))[0]].size

    @functools.cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits; models whose features may differ have others."""
        forms = sorted((name, str(form)) for name, form in self.method.forms.items())
        digest = hashlib.sha256(repr(forms).encode())
        for leaf in jax.tree.leaves(self.weights):
            digest.update(np.ascontiguousarray(devices.fetch(leaf)))
        return digest.hexdigest()[:16]

    def about(self) -> dict[str, Any]:
        """Where the model comes from, for records."""
        return {
            "workdir": str(self.source),
            "step": self.step,
            "epoch": self.epoch,
            "model": self.fingerprint,
        }

    def embedder(
        self, stream: str | None = None, flip: bool | None = None, batch_size: int | None = None
    ) -> Embedder:
        """The compiled way to features; the method's first stream and the config's flip if None.

        Raises:
            UsageError: The model has no such stream.
        """
        batch_size = batch_size or self.config.embed_batch_size
        return Embedder(self.method, stream=stream, flip=flip, batch_size=batch_size)

    def embed(
        self,
        images: Picture | Iterable[Picture] | None = None,
        masks: Picture | Iterable[Picture] | None = None,
        *,
        columns: Mapping[str, Any] | None = None,
        stream: str | None = None,
        flip: bool | None = None,
        batch_size: int | None = None,
        on_batch: Callable[[int], None] | None = None,
        on_bad: Callable[[Picture, UserError], None] | None = None,
    ) -> Float32[np.ndarray, "N D"]:
        """Embeds images of any size, in batches, on whatever devices there are.

        Args:
            images: One image or any iterable of them; each a path, a PIL image or a uint8 array
                (H, W, 3) in RGB order. They are resized to the model's size.
            masks: Where the stream reads them: a mask for each image, of the same kinds, 0 where
                there is no person.
            columns: Whatever else the stream reads, by name: pictures (a `face` for each image,
                None where there is none) or whole numbers (`modality`).
            stream: One of `model.method.streams`; the first of them if None.
            flip: Whether features are summed over each image and its mirror image; as the config
                says if None.
            batch_size: Images in a batch; the config's if None.
            on_batch: Told the number of images done, batch by batch.
            on_bad: Told of each picture that cannot be read and why, instead of the error being
                raised, from the threads that read; a black picture's feature takes its place.

        Returns:
            Features as the method compares them (unit rows, as a rule), one row for each image.

        Raises:
            UserError: An image cannot be read, or there are none.
            UsageError: The model has no such stream, or what it reads is not given.
        """
        embedder = self.embedder(stream, flip, batch_size)
        given = {"image": images, "mask": masks, **(columns or {})}
        sources, readers = [], []
        for name in embedder.reads:
            picture = name.removeprefix("has_")
            if given.get(picture) is None:
                what = "restored_face" if picture == "face_restored" else picture
                raise UsageError(
                    f"stream {embedder.stream!r} needs {what}s; give one for each image"
                )
            if f"has_{name}" in embedder.reads:  # Read twice: the pictures, and which there are.
                given[name], given[f"has_{name}"] = itertools.tee(pictures.one_by_one(given[name]))
            is_number = name not in self.method.forms
            sources.append(given[name] if is_number else pictures.one_by_one(given[name]))
            readers.append(self._reader(name, on_bad))
        batches = pictures.decoded_batches(sources, readers, embedder.batch_size)
        features = list(embedder.of_batches(self.weights, batches, on_batch=on_batch))
        if not features:
            raise UserError("there are no images to embed; give one or more")
        return np.concatenate(features)

    def _reader(self, name: str, on_bad) -> Callable[[Any], np.ndarray]:
        """Turns one cell of a column into numbers: a picture into pixels, a label into itself."""
        if name.startswith("has_"):
            return lambda picture: np.int32(picture is not None)
        if name not in self.method.forms:
            return np.int32
        form = self.method.forms[name]

        def read(picture):
            if picture is None:
                return np.zeros(form.shape, np.uint8)
            try:
                return pictures.fitted_pixels(picture, form)
            except UserError as error:
                if on_bad is None:
                    raise
                on_bad(picture, error)
                return np.zeros(form.shape, np.uint8)

        return read


def load(source: str | os.PathLike[str], *, checkpoint: str | int = "best") -> Model:
    """Loads a trained model.

    Args:
        source: The workdir of a run; `drawn-people`, the network that comes with this package; or
            a file of weights: a checkpoint of the authors' training script or a ResNet of
            torchvision's names (.pth or .safetensors). Of such a file the RGB encoder is used, at
            256 x 128 pixels.
        checkpoint: Of a workdir: `'best'`, `'latest'` or a step.

    Raises:
        UserError: There is no such run, checkpoint or file, or it is damaged.
        UsageError: `checkpoint` is none of the above.
    """
    source = pathlib.Path(source).expanduser()
    if str(source) == drawn_people.NAME:
        return _pretrained("sicl", source, {"silhouettes": False} | drawn_people.RESNET.fields)
    if source.is_dir():
        return load_run(source, str(checkpoint))
    if not source.exists():
        raise UserError(f"{source}: no such workdir or file; give a run's folder or its weights")
    return _load_file(source)


def load_run(folder: pathlib.Path, checkpoint: str = "best") -> Model:
    """Loads the model of a run, as `load` does.

    Raises:
        UserError: There is no such run or checkpoint, or it is damaged.
        UsageError: `checkpoint` is none of `'best'`, `'latest'` and a step.
    """
    config = workdir.read_config(folder)
    weights, method, found = saved.load_weights(
        folder, checkpoint, lambda saved_: methods.create(config, saved_.sizes)
    )
    return Model(method, weights, folder, found)


def _load_file(file: pathlib.Path) -> Model:
    arrays = load_state_dict(file, strip_prefix="module.")
    for name in METHODS.names():
        recognized = METHODS.get(name).recognize(arrays)
        if recognized is not None:
            return _pretrained(name, file, recognized)
    raise UserError(
        f"{file}: a checkpoint of no method here; give one of the authors' training scripts or a "
        "torchvision ResNet"
    )


def _pretrained(name: str, source: pathlib.Path, found: dict[str, Any]) -> Model:
    """The model of a method that weights fill.

    Args:
        name: Of the method.
        source: What `config.model.pretrained` says.
        found: Config fields; `sizes` is as `Method.measure` has it.
    """
    config, sizes = configs.base(name), found.pop("sizes", {})
    config.update_from_flattened_dict(found | {"model.pretrained": str(source)})
    method = methods.create(config.lock(), sizes)
    return Model(method, devices.put_replicated(method.initial_weights(0)), source)
