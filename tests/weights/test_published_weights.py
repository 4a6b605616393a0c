"""Weights of torchvision and of the authors: read, used, written back."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_resnet
import pytest
import safetensors.numpy
from flax import nnx

from sicl_jax.errors import UserError
from sicl_jax.methods.sicl import weights as released_weights
from sicl_jax.methods.sicl.model import Encoder, TwoStreamModel
from sicl_jax.models.resnet import ResNet, ResNetConfig, average_pool
from sicl_jax.weights import torch_names
from sicl_jax.weights import torchvision as torchvision_weights
from sicl_jax.weights.torch_files import load_state_dict, save_state_dict

SMALL = ResNetConfig("bottleneck", (1, 2), width=4)


def abstract(module, *args):
    return nnx.eval_shape(lambda: module(*args))


@pytest.mark.parametrize(("kind", "sizes"), [("bottleneck", (3, 4, 6, 3)), ("basic", (2, 2, 2, 2))])
@pytest.mark.parametrize(("suffix", "last_stride"), [(".pth", 1), (".safetensors", 2)])
def test_torchvision_resnets_compute_what_numpy_computes(
    tmp_path, kind, sizes, suffix, last_stride
):
    weights = numpy_resnet.random_weights(kind, sizes)
    path = tmp_path / f"resnet{suffix}"
    save = save_state_dict if suffix == ".pth" else lambda p, w: safetensors.numpy.save_file(w, p)
    save(path, weights)
    resnet = abstract(ResNet, ResNetConfig(kind, sizes, last_stride=last_stride))
    torchvision_weights.assign(resnet, load_state_dict(path), path)

    images = np.random.default_rng(1).normal(size=(2, 3, 50, 34)).astype(np.float32)
    expected = numpy_resnet.features(images, weights, last_stride=last_stride)
    with jax.default_matmul_precision("highest"):
        graph, state = nnx.split(resnet)
        forward = jax.jit(lambda state, images: pooled(nnx.merge(graph, state), images))
        actual = np.asarray(forward(state, images.transpose(0, 2, 3, 1)))
    assert np.abs(actual - expected).max() < 2e-5 * np.abs(expected).max()

    back = torch_names.collect(torchvision_weights.names(resnet), num_batches=7)
    assert list(back) == [name for name in weights if not name.startswith("fc.")]
    for name, array in back.items():
        assert array.dtype == weights[name].dtype
        np.testing.assert_array_equal(array, weights[name])


def pooled(resnet, images):
    return average_pool(resnet.maps(images, train=False))


def fill(module, seed):
    """Gives every variable numbers of its own, without compiling an initialiser for each."""
    rng = np.random.default_rng(seed)
    state = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), nnx.state(module)
    )
    nnx.update(module, state)
    return module


def drawn_encoder(seed):
    return fill(abstract(Encoder, SMALL), seed)


def theirs(encoder, **trained):
    return torch_names.checkpoint(released_weights.names(encoder), prefix="module.", **trained)


def load(encoder, path):
    arrays = load_state_dict(path, strip_prefix="module.")
    torch_names.assign(released_weights.names(encoder), arrays, path)


def test_the_authors_checkpoint_round_trip(tmp_path):
    first, second = drawn_encoder(0), drawn_encoder(100)
    save_state_dict(tmp_path / "a.pth", theirs(first, epoch=3, steps=8))
    load(second, tmp_path / "a.pth")
    save_state_dict(tmp_path / "b.pth", theirs(second, epoch=3, steps=8))
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()
    for one, other in zip(
        jax.tree.leaves(nnx.state(first)), jax.tree.leaves(nnx.state(second)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_the_authors_names(tmp_path, golden):
    """The exported names are those of the published checkpoints, each after `module.`."""
    arrays = golden("train_steps")
    prefixes = ("rgb_grad_", "rgb_final_")
    expected = {
        name.removeprefix("rgb_"): array
        for name, array in arrays.items()
        if name.startswith("rgb_") and not name.startswith(prefixes)
    }
    config = ResNetConfig("bottleneck", tuple(arrays["stage_sizes"]), int(arrays["width"]))
    encoder = abstract(Encoder, config)
    torch_names.assign(released_weights.names(encoder), expected, "golden")
    save_state_dict(tmp_path / "w.pth", theirs(encoder))
    saved = load_state_dict(tmp_path / "w.pth")
    assert list(saved) == [f"module.{name}" for name in expected]
    for name, array in expected.items():
        assert saved[f"module.{name}"].dtype == array.dtype
        np.testing.assert_array_equal(saved[f"module.{name}"], array)


def checkpoint(encoder):
    return torch_names.collect(released_weights.names(encoder))


def one_line(caught):
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1200
    return message


def test_missing_extra_and_misshapen_weights_are_listed_in_one_line(tmp_path):
    arrays = checkpoint(drawn_encoder(0))
    del arrays["feat_bn.weight"]
    arrays["classifier.weight"] = np.zeros((3, 4), np.float32)
    arrays["base.0.weight"] = arrays["base.0.weight"][:2]
    arrays["base.1.bias"] = np.arange(4)
    save_state_dict(tmp_path / "w.pth", {"state_dict": arrays})
    encoder = drawn_encoder(50)
    before = checkpoint(encoder)
    with pytest.raises(UserError) as caught:
        load(encoder, tmp_path / "w.pth")
    message = one_line(caught)
    for part in (
        "w.pth: does not fit",
        "lacks feat_bn.weight",
        "has classifier.weight",
        "base.0.weight is 2 x 3 x 7 x 7, not 4 x 3 x 7 x 7",
        "base.1.bias holds int64",
    ):
        assert part in message
    for name, array in checkpoint(encoder).items():
        np.testing.assert_array_equal(array, before[name])  # All or nothing.


def test_a_long_list_of_misfits_is_cut(tmp_path):
    safetensors.numpy.save_file({"x": np.zeros(2, np.float32)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"; and \d+ more$") as caught:
        load(drawn_encoder(0), tmp_path / "w.safetensors")
    one_line(caught)


def test_half_precision_becomes_float32(tmp_path):
    arrays = checkpoint(drawn_encoder(0))
    halves = {k: a.astype(np.float16) if a.ndim else a for k, a in arrays.items()}
    save_state_dict(tmp_path / "w.pth", halves)
    encoder = drawn_encoder(5)
    load(encoder, tmp_path / "w.pth")
    loaded = checkpoint(encoder)
    assert loaded["base.0.weight"].dtype == np.float32
    np.testing.assert_array_equal(loaded["base.0.weight"], halves["base.0.weight"])


def two_streams():
    return fill(abstract(TwoStreamModel, SMALL), 3)


def test_pretrained_torchvision_goes_into_both_streams(tmp_path):
    source = drawn_encoder(0).backbone
    weights = torch_names.collect(torchvision_weights.names(source))
    weights["fc.weight"] = np.zeros((10, 32), np.float32)
    save_state_dict(tmp_path / "w.pth", weights)
    model = two_streams()
    released_weights.load_pretrained(model, str(tmp_path / "w.pth"), SMALL)
    for encoder in (model.rgb, model.silhouette):
        np.testing.assert_array_equal(encoder.backbone.conv1.kernel[...], source.conv1.kernel[...])


def test_pretrained_checkpoint_of_the_authors_goes_into_the_rgb_stream(tmp_path):
    source = drawn_encoder(0)
    save_state_dict(tmp_path / "w.pth", theirs(source))
    model = two_streams()
    before = np.asarray(model.silhouette.backbone.conv1.kernel[...])
    released_weights.load_pretrained(model, str(tmp_path / "w.pth"), SMALL)
    np.testing.assert_array_equal(
        model.rgb.projection.linear.kernel[...], source.projection.linear.kernel[...]
    )
    np.testing.assert_array_equal(model.silhouette.backbone.conv1.kernel[...], before)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "huggingface" / "hub"


def test_imagenet_is_found_in_the_hugging_face_cache(hub_cache):
    config = ResNetConfig("basic", (2, 2, 2, 2))
    folder = hub_cache / "models--timm--resnet18.tv_in1k"
    for place in ("blobs", "refs", "snapshots/abc"):
        (folder / place).mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    weights = numpy_resnet.random_weights("basic", (2, 2, 2, 2))
    safetensors.numpy.save_file(weights, folder / "blobs" / "123")
    (folder / "snapshots" / "abc" / "model.safetensors").symlink_to("../../blobs/123")
    model = nnx.eval_shape(lambda: TwoStreamModel(config, silhouettes=False))
    released_weights.load_pretrained(model, "imagenet", config)
    np.testing.assert_array_equal(
        model.rgb.backbone.conv1.kernel[...], weights["conv1.weight"].transpose(2, 3, 1, 0)
    )


@pytest.mark.usefixtures("hub_cache")
def test_absent_imagenet_weights_tell_how_to_fetch_them():
    with pytest.raises(UserError, match=r"hf download timm/resnet50\.tv_in1k model\.safetensors"):
        torchvision_weights.find("imagenet", ResNetConfig())
    with pytest.raises(UserError, match=r"hf download timm/resnet50\.tv2_in1k model"):
        torchvision_weights.find("imagenet_v2", ResNetConfig())
    for name in ("imagenet", "imagenet_v2"):
        with pytest.raises(UserError, match="name a file instead"):
            torchvision_weights.find(name, SMALL)


def _torchvision(backbone):
    return torch_names.collect(torchvision_weights.names(backbone))


@pytest.mark.parametrize(
    ("layout", "suffix"),
    [
        (lambda own, head: {**own, "fc.weight": head}, ".safetensors"),  # timm, torchvision
        (lambda own, head: {"state_dict": {**own, "classifier.weight": head}, "epoch": 60}, ".pth"),
        (lambda own, head: own, ".pth"),  # LUPerson, as published
        (
            lambda own, head: {
                "state_dict": {
                    **{f"module.encoder_q.{name}": array for name, array in own.items()},
                    **{f"module.encoder_k.{name}": array + 1 for name, array in own.items()},
                    "module.encoder_q.fc.0.weight": head,
                    "module.queue": head,
                    "module.queue_ptr": np.zeros(1, np.int64),
                },
                "arch": "resnet50",
            },
            ".pth.tar",
        ),
        (
            lambda own, head: {
                "model": {
                    "pixel_mean": np.zeros((1, 3, 1, 1), np.float32),
                    "pixel_std": np.ones((1, 3, 1, 1), np.float32),
                    **{f"backbone.{name}": array for name, array in own.items()},
                    "heads.bottleneck.0.weight": head[0],
                    "heads.weight": head,
                }
            },
            ".pth",
        ),
    ],
    ids=["torchvision-timm", "torchreid", "luperson", "moco", "fast-reid"],
)
def test_backbones_of_the_fields_public_checkpoints(tmp_path, layout, suffix):
    source = drawn_encoder(0).backbone
    own = _torchvision(source)
    content = layout(own, np.zeros((5, 32), np.float32))
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.numpy.save_file(content, path)
    else:
        save_state_dict(path, content)
    model = two_streams()
    released_weights.load_pretrained(model, str(path), SMALL)
    for encoder in (model.rgb, model.silhouette):
        for name, array in _torchvision(encoder.backbone).items():
            np.testing.assert_array_equal(array, own[name])


def test_a_backbone_of_another_kind_is_refused_not_loaded_in_part(tmp_path):
    """fast-reid's networks with instance norms or non-local blocks have what ours lacks."""
    own = {f"backbone.{n}": a for n, a in _torchvision(drawn_encoder(0).backbone).items()}
    own["backbone.NL_2.0.g.weight"] = np.zeros((1, 2, 1, 1), np.float32)
    save_state_dict(tmp_path / "w.pth", {"model": own})
    with pytest.raises(UserError, match=r"has NL_2\.0\.g\.weight, which the model does not"):
        released_weights.load_pretrained(two_streams(), str(tmp_path / "w.pth"), SMALL)
