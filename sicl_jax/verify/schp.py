"""`schp.npz`: the human parser and what its extractor feeds it."""

import ast
import pathlib
import tempfile
import zlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sicl_jax.masks import extractor
from sicl_jax.masks.params import load_parser
from sicl_jax.verify.checks import Check, relative_error
from sicl_jax.verify.files import Golden
from sicl_jax.weights.torch_files import save_state_dict

_TOLERANCE = 1e-4
_INPUT_SIZE = 512
_SAMPLED = 16


def check(golden: Golden) -> Iterator[Check]:
    """Recomputes the file, its drawn weights through the loader of published checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "drawn.pth"
        save_state_dict(path, _drawn_weights(golden))
        parser, _ = load_parser(path)
    graph, state = nnx.split(parser)
    images = jnp.asarray(golden["input"].transpose(0, 2, 3, 1))
    outputs = jax.jit(lambda state, images: nnx.merge(graph, state)(images))(state, images)
    for name in ("fusion", "parsing", "edge"):
        logits = np.asarray(getattr(outputs, name)).transpose(0, 3, 1, 2)
        yield golden.check(f"{name}_logits", logits, _TOLERANCE)
    yield _check_input(golden)


def _check_input(golden: Golden) -> Check:
    square = extractor.network_input(golden["image_bgr"], _INPUT_SIZE)
    found = np.asarray(extractor.normalize(jnp.asarray(square[None])))[0]
    expected = golden.expected("network_input_sample")
    error = relative_error(found[::_SAMPLED, ::_SAMPLED], expected)
    return golden.verdict("network_input_sample", error, _TOLERANCE)


def _drawn_weights(golden: Golden) -> dict[str, np.ndarray]:
    shapes = zip(golden["parameter_names"], golden["parameter_shapes"], strict=True)
    return {str(name): draw(str(name), ast.literal_eval(str(shape))) for name, shape in shapes}


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The golden format's weights: drawn from a generator seeded by their name, float32."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if "running_var" in name:
        array = rng.uniform(0.5, 1.5, shape)
    elif "running_mean" in name:
        array = rng.normal(0, 0.1, shape)
    elif len(shape) == 4:
        array = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif name.endswith("weight"):
        array = 0.5 * rng.uniform(-1.2, 1.2, shape)
    else:
        array = rng.normal(0, 0.1, shape)
    return array.astype(np.float32)
