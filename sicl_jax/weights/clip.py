"""CLIP's published weights with a ResNet, under the names of OpenAI's archive.

OpenAI's `RN50.pt` is a TorchScript archive of halves; its tensors are read and its code is not.
`open_clip` and the Hugging Face hub hold the same names in safetensors or `torch.save` files.
"""

import os
import pathlib
import re
from collections.abc import Mapping

import numpy as np
from flax import nnx

from sicl_jax.errors import UserError
from sicl_jax.models.clip import AttentionPool, ClipConfig, LayerNorm, Stem, TextTransformer
from sicl_jax.weights import hub, torch_names
from sicl_jax.weights.torch_files import load_state_dict
from sicl_jax.weights.torch_names import AsIs, Names

NAME = "clip-rn50"
_REPOSITORY, _FILE = "timm/resnet50_clip.openai", "open_clip_model.safetensors"
# open_clip's models with a text tower of their own put it into a module `text`.
_TEXT = ("text.", "module.")


def find(source: str) -> pathlib.Path:
    """The file that `config.model.pretrained` names: a path, or `clip-rn50` for the cached one.

    Raises:
        UserError: `clip-rn50` is not in the Hugging Face cache; the message says how to fetch it.
    """
    if source == NAME:
        return hub.cached_file(_REPOSITORY, _FILE, f"config.model.pretrained={NAME}")
    return pathlib.Path(source)


def load(path: str | os.PathLike[str], config: ClipConfig) -> dict[str, np.ndarray]:
    """Reads a file of CLIP's weights.

    Args:
        path: OpenAI's archive, or a state dict with its names (`torch.save` or safetensors).
        config: The shape that the weights must have.

    Returns:
        Arrays by the archive's names, floats as float32.

    Raises:
        UserError: The file cannot be read, holds no CLIP, or one of another architecture.
    """
    arrays = {}
    for name, array in load_state_dict(path).items():
        for prefix in _TEXT:
            name = name.removeprefix(prefix)
        is_narrow = array.dtype.kind in "fV" and array.dtype.itemsize < 4
        arrays[name] = array.astype(np.float32) if is_narrow else array
    found = _architecture(arrays, path)
    if found != (wanted := _described(config)):
        raise UserError(
            f"{path}: holds CLIP with {_words(found)}, but the config describes {_words(wanted)}; "
            "set config.model to the file's, or name another file in config.model.pretrained"
        )
    return arrays


def _architecture(arrays: Mapping[str, np.ndarray], path) -> dict[str, object]:
    """What tells one CLIP from another, read off the shapes of its arrays."""
    if "visual.class_embedding" in arrays:
        raise UserError(
            f"{path}: holds a CLIP whose image encoder is a vision transformer; CCLNet is built on "
            f"the ResNet-50: give OpenAI's RN50.pt, or config.model.pretrained={NAME}"
        )
    needed = (
        *("visual.conv3.weight", "visual.attnpool.c_proj.weight", "token_embedding.weight"),
        *("positional_embedding", "text_projection"),
    )
    if missing := [name for name in needed if name not in arrays]:
        raise UserError(
            f"{path}: holds no CLIP with a ResNet and a text encoder: it lacks {missing[0]}"
        )

    def count(pattern: str) -> int:
        found = (re.match(pattern, name) for name in arrays)
        return len({match.group(1) for match in found if match})

    layers = count(r"visual\.layer(\d+)\.")
    return {
        "stage_sizes": tuple(count(rf"visual\.layer{n}\.(\d+)\.") for n in range(1, layers + 1)),
        "width": _length(arrays["visual.conv3.weight"], 0),
        "embed_dim": _length(arrays["visual.attnpool.c_proj.weight"], 0),
        "text_width": _length(arrays["token_embedding.weight"], -1),
        "text_layers": count(r"transformer\.resblocks\.(\d+)\."),
        "context": _length(arrays["positional_embedding"], 0),
    }


def _length(array: np.ndarray, axis: int) -> int:
    return array.shape[axis] if array.ndim else 0


def _described(config: ClipConfig) -> dict[str, object]:
    return {**vars(config), "stage_sizes": tuple(config.stage_sizes)}


def _words(architecture: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in architecture.items())


def stem(prefix: str, module: Stem) -> Names:
    """Names of a stem's variables; `prefix` is that of the image encoder, such as `visual`."""
    names: Names = {}
    for i in (1, 2, 3):
        names[f"{prefix}.conv{i}.weight"] = getattr(module, f"conv{i}").kernel
        names |= torch_names.batch_norm(f"{prefix}.bn{i}", getattr(module, f"bn{i}"))
    return names


def residual_layers(prefix: str, layers: nnx.List) -> Names:
    """Names of the residual layers' variables; `prefix` is that of the image encoder."""
    names: Names = {}
    for number, blocks in enumerate(layers, 1):
        for index, block in enumerate(blocks):
            names |= torch_names.block(f"{prefix}.layer{number}.{index}", block)
    return names


def attention_pool(prefix: str, module: AttentionPool) -> Names:
    """Names of an attention pool's variables; `prefix` is that of the image encoder."""
    names: Names = {f"{prefix}.attnpool.positional_embedding": AsIs(module.position)}
    for name, part in (
        *(("k_proj", module.key), ("q_proj", module.query)),
        *(("v_proj", module.value), ("c_proj", module.output)),
    ):
        names[f"{prefix}.attnpool.{name}.weight"] = part.kernel
        names[f"{prefix}.attnpool.{name}.bias"] = part.bias
    return names


def text(prefix: str, module: TextTransformer) -> Names:
    """Names of the text transformer's variables, each after `prefix`, which ends in a dot or is ''.

    The archive's own names have no prefix.
    """
    names: Names = {
        f"{prefix}positional_embedding": AsIs(module.position),
        f"{prefix}text_projection": AsIs(module.projection),
    }
    for index, block in enumerate(module.blocks):
        name = f"{prefix}transformer.resblocks.{index}"
        names |= {
            f"{name}.attn.in_proj_weight": block.qkv.kernel,
            f"{name}.attn.in_proj_bias": block.qkv.bias,
            f"{name}.attn.out_proj.weight": block.out.kernel,
            f"{name}.attn.out_proj.bias": block.out.bias,
            **_layer_norm(f"{name}.ln_1", block.ln_1),
            f"{name}.mlp.c_fc.weight": block.fc.kernel,
            f"{name}.mlp.c_fc.bias": block.fc.bias,
            f"{name}.mlp.c_proj.weight": block.proj.kernel,
            f"{name}.mlp.c_proj.bias": block.proj.bias,
            **_layer_norm(f"{name}.ln_2", block.ln_2),
        }
    return {**names, **_layer_norm(f"{prefix}ln_final", module.ln_final)}


def _layer_norm(prefix: str, module: LayerNorm) -> Names:
    return {f"{prefix}.weight": module.scale, f"{prefix}.bias": module.bias}
