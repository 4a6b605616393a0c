"""A trained model, loaded to be used: features of any images.

    model = sicl_jax.load("runs/demo")
    features = model.embed(["a.jpg", "b.jpg"])  # (2, D) float32, unit rows
    similarity = features @ features.T

A feature is a unit row, so the scalar product of two is their cosine similarity.
"""

import functools
import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
from jaxtyping import Float32

from sicl_jax import devices, methods
from sicl_jax.data import pictures
from sicl_jax.data.pictures import Picture
from sicl_jax.data.pixels import Form
from sicl_jax.errors import UsageError, UserError
from sicl_jax.methods.base import Method, WeightsOnly
from sicl_jax.methods.embedder import Embedder
from sicl_jax.training import saved, workdir
from sicl_jax.weights.torch_files import load_state_dict

_BLOCK = re.compile(r"(?:base\.|layer)(\d+)\.(\d+)\.conv1\.weight")


class Model:
    """A model that embeds images.

    Attributes:
        config: The experiment that it comes from.
        method: Its method.
        state: Its weights, on the devices.
        source: The workdir or the file.
        step: Optimiser steps trained; None for a file.
        epoch: Epochs trained; None for a file.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        method: Method,
        weights,
        source: pathlib.Path,
        checkpoint: saved.Saved | None = None,
    ):
        self.config = config
        self.method = method
        self.state = WeightsOnly(weights)
        self.source = source
        self.step = checkpoint.step if checkpoint else None
        self.epoch = checkpoint.epoch if checkpoint else None

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width that images are resized to."""
        return tuple(self.config.data.image_size)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits; models whose features may differ have others."""
        digest = hashlib.sha256(repr((self.image_size, self.config.data.mask_mode)).encode())
        for leaf in jax.tree.leaves(self.state.weights):
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
        self, stream: str = "rgb", flip: bool = False, batch_size: int | None = None
    ) -> Embedder:
        """The compiled way to features.

        Raises:
            UsageError: The model has no such stream.
        """
        batch_size = batch_size or self.config.embed_batch_size
        return Embedder(self.method, stream=stream, flip=flip, batch_size=batch_size)

    def embed(
        self,
        images: Picture | Iterable[Picture],
        masks: Picture | Iterable[Picture] | None = None,
        *,
        stream: str = "rgb",
        flip: bool = False,
        batch_size: int | None = None,
        on_batch: Callable[[int], None] | None = None,
        on_bad: Callable[[Picture, UserError], None] | None = None,
    ) -> Float32[np.ndarray, "N D"]:
        """Embeds images of any size, in batches, on whatever devices there are.

        Args:
            images: One image or any iterable of them; each a path, a PIL image or a uint8 array
                (H, W, 3) in RGB order. They are resized to the model's size.
            masks: For the streams `silhouette` and `fusion`: a mask for each image, of the same
                kinds, 0 where there is no person.
            stream: `rgb`, or what `model.method.streams` has besides.
            flip: Average over each image and its mirror image.
            batch_size: Images in a batch; the config's if None.
            on_batch: Told the number of images done, batch by batch.
            on_bad: Told of each picture that cannot be read and why, instead of the error being
                raised, from the threads that read; a black picture's feature takes its place.

        Returns:
            Unit rows, one for each image.

        Raises:
            UserError: An image cannot be read, or there are none.
            UsageError: The model has no such stream, or its masks are not given.
        """
        embedder = self.embedder(stream, flip, batch_size)
        if embedder.reads_masks and masks is None:
            raise UsageError(f"stream {stream!r} needs masks; give one for each image")
        columns = []
        if embedder.reads_images:
            columns.append(pictures.one_by_one(images))
        if embedder.reads_masks:
            columns.append(pictures.one_by_one(masks))
        readers = self._readers(embedder, on_bad)
        features = []
        for batch in pictures.decoded_batches(columns, readers, embedder.batch_size):
            features.append(self._embed_batch(embedder, batch))
            if on_batch is not None:
                on_batch(len(features[-1]))
        if not features:
            raise UserError("there are no images to embed; give one or more")
        return np.concatenate(features)

    def _readers(self, embedder: Embedder, on_bad) -> list[Callable[[Picture], np.ndarray]]:
        """What decodes an image, and what decodes a mask, as far as the stream reads them."""
        forms = []
        if embedder.reads_images:
            forms.append(Form(self.image_size))
        if embedder.reads_masks:
            forms.append(Form(self.image_size, mode=self.config.data.mask_mode))
        readers = [functools.partial(pictures.fitted_pixels, form=form) for form in forms]
        if on_bad is None:
            return readers
        return [
            _or_blank(read, np.zeros(form.shape, np.uint8), on_bad)
            for read, form in zip(readers, forms, strict=True)
        ]

    def _embed_batch(self, embedder: Embedder, batch: list[np.ndarray]) -> np.ndarray:
        """Features of a batch, filled up to a power of two: few sizes are few programs."""
        count = len(batch[0])
        size = min(embedder.batch_size, 1 << (count - 1).bit_length())
        batch = [np.concatenate([b, np.repeat(b[-1:], size - count, axis=0)]) for b in batch]
        images = batch[0] if embedder.reads_images else None
        masks = batch[-1] if embedder.reads_masks else None
        return embedder(self.state, images, masks)[:count]


def _or_blank(read: Callable, blank: np.ndarray, on_bad: Callable) -> Callable:
    def read_or_blank(picture: Picture) -> np.ndarray:
        try:
            return read(picture)
        except UserError as error:
            on_bad(picture, error)
            return blank

    return read_or_blank


def load(source: str | os.PathLike[str], *, checkpoint: str | int = "best") -> Model:
    """Loads a trained model.

    Args:
        source: The workdir of a run; or a file of weights: a checkpoint of the authors' training
            script or a ResNet of torchvision's names (.pth or .safetensors). Of such a file the
            RGB encoder is used, at 256 x 128 pixels.
        checkpoint: Of a workdir: `'best'`, `'latest'` or a step.

    Raises:
        UserError: There is no such run, checkpoint or file, or it is damaged.
        UsageError: `checkpoint` is none of the above.
    """
    source = pathlib.Path(source).expanduser()
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
    method = methods.create(config)
    weights, found = saved.load_weights(folder, checkpoint, method.abstract_weights())
    return Model(config, method, weights, folder, found)


def _load_file(file: pathlib.Path) -> Model:
    from sicl_jax.configs import base

    config = base.get_config()
    config.silhouettes = False
    config.model.update(_shape(file, load_state_dict(file, strip_prefix="module.")))
    config.model.pretrained = str(file)
    method = methods.create(config.lock())
    return Model(config, method, devices.put_replicated(method.initial_weights(0)), file)


def _shape(file: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> dict:
    """The shape of a ResNet as its arrays' names and sizes tell it."""
    blocks = [match for match in map(_BLOCK.fullmatch, arrays) if match]
    if not blocks:
        raise UserError(
            f"{file}: no ResNet encoder in it; give a checkpoint of the authors' training script "
            "or a torchvision ResNet"
        )
    stages = sorted({int(match[1]) for match in blocks})
    sizes = tuple(sum(int(match[1]) == stage for match in blocks) for stage in stages)
    first = min(blocks, key=lambda match: (int(match[1]), int(match[2])))[0]
    bottleneck = first.replace("conv1", "conv3") in arrays
    return {
        "block": "bottleneck" if bottleneck else "basic",
        "stage_sizes": sizes,
        "width": int(arrays[first].shape[0]),
    }
