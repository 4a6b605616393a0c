"""What the checks of CCLNet's golden files share: a file's network and tolerances."""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sicl_jax import config as configs
from sicl_jax.data.augment import normalize
from sicl_jax.methods.cclnet import weights as published
from sicl_jax.methods.cclnet.method import CclNet
from sicl_jax.methods.cclnet.model import CrossModalModel, PromptShape
from sicl_jax.verify import Golden

OUTPUT, GRADIENT, LATER, CHANGE, SCHEDULE = 1e-4, 1e-3, 5e-3, 5e-2, 1e-6
PAIR = ("rgb", "ir")


def drawn(golden: Golden) -> dict[str, np.ndarray]:
    """The initial arrays of a file by the authors' names: drawn by name, or as the file has them.

    The draws' rules are those of the golden files' README.
    """
    given, arrays = golden.with_prefix("initial:"), {}
    shapes = zip(golden["parameter_names"], golden["parameter_shapes"], strict=True)
    for name, shape in ((str(name), tuple(s for s in shape if s)) for name, shape in shapes):
        arrays[name] = given.get(name, golden.as_input(name, _draw(name, shape)))
    return arrays


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name == "bottleneck.bias":
        array = np.zeros(shape)
    elif "running_var" in name:
        array = rng.uniform(0.5, 1.5, shape)
    elif "running_mean" in name:
        array = rng.normal(0, 0.1, shape)
    elif len(shape) == 4:
        array = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif len(shape) == 3:
        array = rng.normal(0, 0.1, shape)
    elif len(shape) == 2:
        scale = 0.3 if name.endswith(("c_proj.weight", "text_projection")) else 1.0
        array = rng.normal(0, scale / np.sqrt(shape[-1]), shape)
    elif name.endswith(("bn3.weight", "downsample.1.weight")):
        array = rng.uniform(0.25, 0.75, shape)
    elif name.endswith("weight"):
        array = rng.uniform(0.5, 1.5, shape)
    else:
        array = rng.normal(0, 0.1, shape)
    return array.astype(np.float32)


def method_of(golden: Golden, images: Golden, **groups: Mapping[str, Any] | Any) -> CclNet:
    """The method for a file's network.

    Args:
        golden: The file.
        images: The file that has its images.
        **groups: Fields of the config, or groups of them.
    """
    config = configs.base("cclnet")
    fields = published.recognize(drawn(golden))
    if fields is None:
        raise ValueError("parameter_names are not those of CCLNet")
    sizes = fields.pop("sizes")
    fields["data.image_size"] = images["images_rgb"].shape[1:3]
    config.update_from_flattened_dict(fields)
    config.update({"model": {"dtype": "float32"}, **groups})
    method = CclNet(config, sizes)
    method.sentences = _sentences(golden)
    return method


def _sentences(golden: Golden) -> list[tuple[np.ndarray, PromptShape]]:
    """The prompts by the shapes of a file's arrays; their ends are in the file of the model."""
    names = map(str, golden["parameter_names"])
    lengths = dict(zip(names, golden["parameter_shapes"][:, 1].tolist(), strict=True))
    found, of_model = [], golden.beside("model")
    for modality in PAIR:
        ids = of_model[f"token_ids_{modality}"]
        start, learned = (
            lengths[f"prompt_learner.{part}_{modality}"] for part in ("token_prefix", "cls_ctx")
        )
        # The end token is the one of the greatest number.
        found.append((ids, PromptShape(start, learned, int(ids.argmax()) + 1 - start - learned)))
    return found


def model_of(golden: Golden, method: CclNet) -> CrossModalModel:
    """The network, filled."""
    model = method.abstract_model()
    published.assign(model, drawn(golden), golden.file)
    return model


def images_of(golden: Golden, modality: str, rows: np.ndarray | slice = slice(None)) -> jax.Array:
    """Images of a modality, `rgb` or `ir`, normalised."""
    return normalize(jnp.asarray(golden[f"images_{modality}"][rows]))


def summaries(arrays: Mapping[str, np.ndarray], names) -> dict[str, np.ndarray]:
    """Mean, deviation and norm of the arrays of these names."""
    wide = {str(name): np.asarray(arrays[str(name)], np.float64) for name in names}
    return {n: np.array([a.mean(), a.std(), np.linalg.norm(a)]) for n, a in wide.items()}
