"""The encoder as a StableHLO program with its weights in it, for batches of any size.

encode = jax.export.deserialize(pathlib.Path("rgb.stablehlo").read_bytes()).call
features = encode(images)  # (B, H, W, 3) uint8 RGB, resized -> (B, D) float32, unit rows
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax import export

from sicl_jax import devices, methods
from sicl_jax.errors import UserError
from sicl_jax.inference import Model
from sicl_jax.methods.base import WeightsOnly

_PLATFORMS = ("cpu", "cuda", "tpu")


def to_bytes(model: Model) -> bytes:
    """The file's content: `jax.export`'s serialisation, for CPUs, NVIDIA GPUs and TPUs.

    Computes in float32 whatever the run computed in.
    """
    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *model.image_size, 3), jnp.uint8)
    exported = export.export(jax.jit(encoder(model)), platforms=_PLATFORMS)(images)
    try:
        return bytes(exported.serialize())
    except ImportError as error:  # JAX leaves the serialisation's format to an optional package.
        raise UserError(
            "--format stablehlo: needs flatbuffers; pip install 'sicl-jax[export]'"
        ) from error


def encoder(model: Model) -> Callable[[jax.Array], jax.Array]:
    """The function from images (B, H, W, 3) uint8 to features, in float32, weights in it."""
    config = ml_collections.ConfigDict(model.config)
    with config.unlocked():
        config.model.dtype = "float32"
    method = methods.create(config)
    weights = jax.tree.map(lambda leaf: np.asarray(devices.fetch(leaf)), model.state.weights)
    return lambda images: method.embed(WeightsOnly(weights), images)
