"""CLIP's weights in the files in which they are published, and what does not fit."""

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from sicl_jax.errors import UserError
from sicl_jax.methods.cclnet import prompts, weights
from sicl_jax.methods.cclnet.model import CrossModalModel
from sicl_jax.models.clip import ClipConfig, resize_positions
from sicl_jax.weights import clip, torch_names
from sicl_jax.weights.torch_files import load_state_dict, save_state_dict

TINY = ClipConfig((1, 1, 1, 1), width=2, embed_dim=6, text_width=64, text_layers=1)
SIZE = (48, 32)
SENTENCES = [prompts.token_ids(s, "", 77)[0] for s in (prompts.VISIBLE, prompts.INFRARED)]


def model(config=TINY):
    return nnx.eval_shape(lambda: CrossModalModel(config, image_size=SIZE))


@pytest.fixture(scope="module")
def archive():
    """What a file of CLIP's holds: halves under the names of OpenAI's archive."""
    rng = np.random.default_rng(0)
    source = model()
    names = {
        **clip.stem("visual", source.visible),
        **clip.residual_layers("visual", source.layers),
        **clip.attention_pool("visual", source.attention_pool),
        **clip.text("", source.text),
    }
    shapes = {name: torch_names.torch_shape(entry) for name, entry in names.items()}
    shapes["visual.attnpool.positional_embedding"] = (1 + 7 * 7, 64)
    shapes["token_embedding.weight"] = (49408, 64)
    shapes["logit_scale"] = ()
    return {name: np.asarray(rng.normal(size=s), np.float16) for name, s in shapes.items()}


def filled(path):
    """A model from the file, with zeros where CLIP has nothing."""
    result = model()
    own = [getattr(result.bottleneck, name) for name in ("scale", "bias", "mean", "var")]
    for variable in (*own, result.visible_prompts.learned, result.infrared_prompts.learned):
        variable.set_value(jnp.zeros(variable.shape))
    weights.load_clip(result, path, TINY, image_size=SIZE, sentences=SENTENCES)
    return result


def open_clip(arrays):
    """`open_clip`'s names where the text encoder is a module of its own."""
    return {n if n.startswith(("visual", "logit")) else f"text.{n}": a for n, a in arrays.items()}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("renamed", [dict, open_clip])
def test_every_file_fills_the_model(tmp_path, archive, suffix, renamed):
    path = tmp_path / f"clip{suffix}"
    save = save_state_dict if suffix == ".pt" else lambda p, a: safetensors.numpy.save_file(a, p)
    save(path, renamed(archive))
    arrays = torch_names.collect(weights.names(filled(path)))
    assert all(array.dtype == np.float32 for name, array in arrays.items() if "num_" not in name)
    for stem in ("visible_module.visible", "thermal_module.thermal"):
        np.testing.assert_array_equal(
            arrays[f"{stem}.conv2.weight"], archive["visual.conv2.weight"]
        )
    for ours, theirs in (
        ("base_resnet.base.layer3.0.conv3.weight", "visual.layer3.0.conv3.weight"),
        ("base_resnet.base.attnpool.c_proj.weight", "visual.attnpool.c_proj.weight"),
        ("text_encoder.text_projection", "text_projection"),
        (
            "text_encoder.transformer.resblocks.0.mlp.c_fc.weight",
            "transformer.resblocks.0.mlp.c_fc.weight",
        ),
    ):
        np.testing.assert_array_equal(arrays[ours], archive[theirs])
    np.testing.assert_array_equal(
        arrays["base_resnet.base.attnpool.positional_embedding"],
        resize_positions(archive["visual.attnpool.positional_embedding"].astype("f4"), (3, 2)),
    )
    tokens = archive["token_embedding.weight"].astype(np.float32)
    for modality, ids in zip(("rgb", "ir"), SENTENCES, strict=True):
        np.testing.assert_array_equal(
            arrays[f"prompt_learner.token_prefix_{modality}"][0], tokens[ids[:6]]
        )
        np.testing.assert_array_equal(
            arrays[f"prompt_learner.token_suffix_{modality}"][0], tokens[ids[10:]]
        )


def test_resizing_a_position_embedding_to_its_own_size_keeps_it():
    table = np.random.default_rng(0).normal(size=(1 + 49, 3)).astype(np.float32)
    np.testing.assert_array_equal(resize_positions(table, (7, 7)), table)


def refused(tmp_path, arrays, config=TINY):
    save_state_dict(tmp_path / "clip.pt", arrays)
    with pytest.raises(UserError) as caught:
        weights.load_clip(
            model(config), tmp_path / "clip.pt", config, image_size=SIZE, sentences=SENTENCES
        )
    message = str(caught.value)
    assert "\n" not in message and "clip.pt: " in message
    return message


def test_another_architecture_is_one_line(tmp_path, archive):
    message = refused(tmp_path, archive, ClipConfig())
    assert "holds CLIP with stage_sizes (1, 1, 1, 1), width 2" in message
    assert "the config describes stage_sizes (3, 4, 6, 3), width 64" in message


def test_a_vision_transformer_is_one_line(tmp_path, archive):
    arrays = {**archive, "visual.class_embedding": np.zeros(3, np.float32)}
    assert "vision transformer" in refused(tmp_path, arrays)


def test_an_image_encoder_alone_is_one_line(tmp_path, archive):
    arrays = {n: a for n, a in archive.items() if n.startswith("visual")}
    assert "it lacks token_embedding.weight" in refused(tmp_path, arrays)


def test_too_few_tokens_is_one_line(tmp_path, archive):
    arrays = {**archive, "token_embedding.weight": np.zeros((100, 64), np.float32)}
    assert "has 100 tokens; the prompts use 49407" in refused(tmp_path, arrays)


def test_a_hollow_file_is_one_line(tmp_path, archive):
    arrays = {name: np.zeros((), np.float32) for name in archive}
    refused(tmp_path, arrays)


def test_clip_is_found_in_the_hugging_face_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        UserError, match=r"hf download timm/resnet50_clip\.openai open_clip_model\.safetensors"
    ):
        clip.find("clip-rn50")
    folder = tmp_path / "models--timm--resnet50_clip.openai"
    for place in ("refs", "snapshots/abc"):
        (folder / place).mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    file = folder / "snapshots" / "abc" / "open_clip_model.safetensors"
    file.write_bytes(b"")
    assert clip.find("clip-rn50") == file


def test_the_authors_checkpoint_round_trip(tmp_path, archive):
    save_state_dict(tmp_path / "clip.pt", archive)
    first = filled(tmp_path / "clip.pt")
    save_state_dict(tmp_path / "a.pth", weights.checkpoint(first, epoch=3, steps=8))
    second = model()
    weights.assign(second, load_state_dict(tmp_path / "a.pth"), "a.pth")
    save_state_dict(tmp_path / "b.pth", weights.checkpoint(second, epoch=3, steps=8))
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_a_checkpoint_has_the_authors_names(tmp_path, archive, golden):
    save_state_dict(tmp_path / "clip.pt", archive)
    ours = weights.checkpoint(filled(tmp_path / "clip.pt"))["state_dict"]
    theirs = golden("cclnet/model")["parameter_names"].tolist()
    deeper = ("layer2.1.", "resblocks.1.")  # The golden model has more blocks.
    wanted = {name for name in theirs if not any(part in name for part in deeper)}
    assert {name for name in ours if "num_batches" not in name} == wanted
