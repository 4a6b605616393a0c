"""The encoder as an ONNX model with its weights in it, for batches of any size.

Input `images` (batch, H, W, 3) uint8 RGB, resized; output `features` (batch, D) float32, unit rows.
"""

import jax
import jax.numpy as jnp

from sicl_jax.errors import UserError
from sicl_jax.export.stablehlo_format import encoder
from sicl_jax.inference import Model


def to_bytes(model: Model) -> bytes:
    """The file's content. Computes in float32 whatever the run computed in."""
    try:
        import jax2onnx
    except ImportError as error:
        raise UserError("--format onnx: needs jax2onnx; pip install 'sicl-jax[onnx]'") from error
    images = jax.ShapeDtypeStruct(("batch", *model.image_size, 3), jnp.uint8)
    converted = jax2onnx.to_onnx(
        encoder(model),
        inputs=[images],
        model_name="sicl_rgb",
        input_names=["images"],
        output_names=["features"],
    )
    return converted.SerializeToString()
