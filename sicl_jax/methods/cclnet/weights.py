"""Weights of CCLNet: CLIP's into a new model, and the authors' checkpoints both ways.

`docs/methods/cclnet.md` sections 2 and 9. A checkpoint holds three whole image encoders, of which
only the stems of two and the rest of the third are used.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sicl_jax import devices
from sicl_jax.errors import UserError
from sicl_jax.methods.cclnet.model import CrossModalModel
from sicl_jax.models.clip import ClipConfig, grid, resize_positions
from sicl_jax.weights import clip, drawn_people, torch_names
from sicl_jax.weights.torch_files import load_state_dict

_VISIBLE, _INFRARED = "visible_module.visible", "thermal_module.thermal"
_SHARED = "base_resnet.base"
# What the other two copies of the image encoder hold and nothing uses.
_UNUSED = re.compile(rf"({_VISIBLE}|{_INFRARED})\.(layer\d|attnpool)|{_SHARED}\.(conv|bn)\d")
_POSITIONS = "visual.attnpool.positional_embedding"
_TOKENS = "token_embedding.weight"
_NOTHING = np.zeros(())
_LAYERS = range(1, 5)
_NOT_NEEDED = (_TOKENS, "logit_scale", "input_resolution", "context_length", "vocab_size")


def names(model: CrossModalModel) -> torch_names.Names:
    """The authors' names of a model's variables."""
    prompts = {"rgb": model.visible_prompts, "ir": model.infrared_prompts}
    return {
        **clip.stem(_INFRARED, model.infrared),
        **clip.stem(_VISIBLE, model.visible),
        **clip.residual_layers(_SHARED, model.layers),
        **clip.attention_pool(_SHARED, model.attention_pool),
        **{f"prompt_learner.cls_ctx_{m}": p.learned for m, p in prompts.items()},
        **{f"prompt_learner.token_prefix_{m}": p.start for m, p in prompts.items()},
        **{f"prompt_learner.token_suffix_{m}": p.end for m, p in prompts.items()},
        **clip.text("text_encoder.", model.text),
        **torch_names.batch_norm("bottleneck", model.bottleneck),
    }


def is_released(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether these are names of such a checkpoint."""
    return any(name.startswith(f"{_SHARED}.") for name in arrays)


def recognize(arrays: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Config fields of the model in a checkpoint, and its `sizes`; None if it is none.

    The size of the images is that of 2 : 1 whose map has as many positions as the checkpoint has
    embeddings.
    """
    needed = {
        "width": f"{_VISIBLE}.conv3.weight",
        "positions": f"{_SHARED}.attnpool.positional_embedding",
        "projection": f"{_SHARED}.attnpool.c_proj.weight",
        "context": "text_encoder.positional_embedding",
        "rgb": "prompt_learner.cls_ctx_rgb",
        "ir": "prompt_learner.cls_ctx_ir",
    }
    if not is_released(arrays) or not all(arrays.get(n, _NOTHING).ndim for n in needed.values()):
        return None
    shapes = {key: arrays[name].shape for key, name in needed.items()}
    columns = max(1, round(((shapes["positions"][0] - 1) / 2) ** 0.5))
    return {
        "data.image_size": (32 * columns, 16 * columns),
        "model.stage_sizes": tuple(
            _count(arrays, rf"{_SHARED}\.layer{n}\.(\d+)\.") for n in _LAYERS
        ),
        "model.width": shapes["width"][0],
        "model.embed_dim": shapes["projection"][0],
        "model.text_width": shapes["context"][-1],
        "model.text_layers": _count(arrays, r"text_encoder\.transformer\.resblocks\.(\d+)\."),
        "model.context": shapes["context"][0],
        "sizes": {"visible_classes": shapes["rgb"][0], "infrared_classes": shapes["ir"][0]},
    }


def _count(arrays: Mapping[str, np.ndarray], pattern: str) -> int:
    """How many numbers stand at a place in the arrays' names."""
    found = (re.match(pattern, name) for name in arrays)
    return len({match.group(1) for match in found if match})


def load_pretrained(
    model: CrossModalModel,
    source: str,
    config: ClipConfig,
    *,
    image_size: tuple[int, int],
    sentences: Sequence[np.ndarray],
) -> None:
    """Fills a model from published weights.

    Args:
        model: What to fill; see `load_clip`. Of the authors' checkpoint prompts of as many classes
            are taken, others are left.
        source: A file, recognised by the names in it; `clip-rn50`; or `drawn-people`.
        config: The model's shape.
        image_size: As for `load_clip`.
        sentences: As for `load_clip`.

    Raises:
        UserError: The file is missing, cannot be read or does not fit the model.
    """
    if source == drawn_people.NAME:
        shape = {f"model.{name}": value for name, value in vars(config).items()}
        path = drawn_people.CLIP.find({**shape, "data.image_size": image_size})
    else:
        path = clip.find(source)
    arrays = load_state_dict(path, strip_prefix="module.")
    if not is_released(arrays):
        load_clip(model, path, config, image_size=image_size, sentences=sentences)
        return
    wanted = names(model)
    for name in [name for name in wanted if name.startswith("prompt_learner.cls_ctx")]:
        if name in arrays and np.ndim(arrays[name]) and len(arrays[name]) != wanted[name].shape[0]:
            del wanted[name]
    unused = [name for name in arrays if _UNUSED.match(name) or name.startswith("prompt_learner.")]
    torch_names.assign(wanted, arrays, path, ignored=unused)


def assign(
    model: CrossModalModel, arrays: Mapping[str, np.ndarray], source: str | os.PathLike[str]
) -> None:
    """Fills a model from a checkpoint's arrays; `source` is named in errors.

    Raises:
        UserError: They do not fit the model.
    """
    unused = [name for name in arrays if _UNUSED.match(name)]
    torch_names.assign(names(model), arrays, source, ignored=unused)


def load_clip(
    model: CrossModalModel,
    path: str | os.PathLike[str],
    config: ClipConfig,
    *,
    image_size: tuple[int, int],
    sentences: Sequence[np.ndarray],
) -> None:
    """Fills a model from CLIP's weights: both stems alike, and the sentences' fixed tokens.

    Args:
        model: What to fill; the bottleneck and the learned tokens stay as they are.
        path: A file that `weights.clip.load` reads.
        config: The model's shape.
        image_size: Height and width of the images, to which the position embedding is resized.
        sentences: Token ids of the visible and of the infrared sentence, (context,) each.

    Raises:
        UserError: The file cannot be read or does not fit the model.
    """
    arrays = clip.load(path, config)
    arrays[_POSITIONS] = resize_positions(arrays[_POSITIONS], grid(image_size))
    wanted = {
        **clip.stem("visual", model.visible),
        **clip.residual_layers("visual", model.layers),
        **clip.attention_pool("visual", model.attention_pool),
        **clip.text("", model.text),
    }
    torch_names.assign(wanted, arrays, path, ignored=_NOT_NEEDED)
    torch_names.assign(clip.stem("visual", model.infrared), arrays, path, ignored=arrays)
    tokens = arrays[_TOKENS]
    if (needed := max(map(np.max, sentences))) >= len(tokens):
        raise UserError(f"{path}: {_TOKENS} has {len(tokens)} tokens; the prompts use {needed}")
    for prompts, ids in zip(
        (model.visible_prompts, model.infrared_prompts), sentences, strict=True
    ):
        start = prompts.start.shape[1]
        for variable, part in (
            (prompts.start, ids[:start]),
            (prompts.end, ids[start + prompts.learned.shape[1] :]),
        ):
            array = tokens[part][None].astype(variable.dtype)
            variable.set_value(devices.put(array, devices.replicated()))


def checkpoint(model: CrossModalModel, *, epoch: int = 0, steps: int = 0) -> dict[str, Any]:
    """What the authors' training script would save of a model; `save_state_dict` writes it.

    The copies that nothing uses are filled with the layers and stems that are used.

    Args:
        model: What to save.
        epoch: Epochs trained.
        steps: Optimiser steps trained.
    """
    all_names = {
        **clip.residual_layers(_INFRARED, model.layers),
        **clip.attention_pool(_INFRARED, model.attention_pool),
        **clip.residual_layers(_VISIBLE, model.layers),
        **clip.attention_pool(_VISIBLE, model.attention_pool),
        **clip.stem(_SHARED, model.visible),
        **names(model),
    }
    return {"state_dict": torch_names.collect(all_names, num_batches=steps), "epoch": epoch}
