"""The encoder's arrays as safetensors, under the authors' names less `module.`."""

import json

import safetensors.numpy

from sicl_jax.inference import Model
from sicl_jax.methods.sicl import weights as released_weights
from sicl_jax.weights import torch_names


def to_bytes(model: Model) -> bytes:
    """The file's content; its metadata say where the weights come from."""
    encoder = model.method.model(model.state.weights).rgb
    arrays = torch_names.collect(released_weights.names(encoder), num_batches=model.step or 0)
    about = {"format": "pt", "sicl_jax": json.dumps(model.about())}
    return safetensors.numpy.save(arrays, metadata=about)
