"""A checkpoint that the authors' PyTorch code loads."""

from sicl_jax.inference import Model
from sicl_jax.methods.sicl import weights as released_weights
from sicl_jax.weights import torch_writer


def to_bytes(model: Model) -> bytes:
    """The file's content."""
    encoder = model.method.model(model.state.weights).rgb
    content = released_weights.checkpoint(encoder, epoch=model.epoch or 0, steps=model.step or 0)
    return torch_writer.to_bytes(content)
