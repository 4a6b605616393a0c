"""A loaded model: features by all ways in, and what it refuses."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import sicl_jax
from sicl_jax.errors import UsageError, UserError
from sicl_jax.methods.embedder import batch_of
from sicl_jax.methods.sicl import weights as released_weights
from sicl_jax.training import testing
from sicl_jax.weights import torch_names


@pytest.fixture(scope="module")
def gallery(dataset):
    return dataset.split("gallery")


@pytest.fixture(scope="module")
def tested(model, dataset):
    """Features as the test of a run makes them."""
    return testing.Tester(dataset, model.embedder()).features(model.weights)["gallery"].features


def test_all_ways_in_give_the_features_of_a_test(model, gallery, tested, tmp_path, rounding):
    arrays = [np.asarray(image) for image in gallery.pixels["image"][:3]]
    for row, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"{row}.png")
    ways = {
        "stack": gallery.pixels["image"][:3],
        "arrays": arrays,
        "iterator": iter(arrays),
        "pil": [Image.fromarray(array) for array in arrays],
        "paths": (tmp_path / f"{row}.png" for row in range(3)),
        "strings": [str(tmp_path / f"{row}.png") for row in range(3)],
    }
    for name, images in ways.items():
        features = model.embed(images)
        assert features.dtype == np.float32, name
        np.testing.assert_allclose(features, tested[:3], atol=rounding, err_msg=name)
    np.testing.assert_allclose(model.embed(arrays[1]), tested[1:2], atol=rounding)
    np.testing.assert_allclose(model.embed(tmp_path / "2.png"), tested[2:3], atol=rounding)


def test_batches_do_not_matter(model, gallery, tested, rounding):
    done = []
    features = model.embed(gallery.pixels["image"][:11], batch_size=4, on_batch=done.append)
    np.testing.assert_allclose(features, tested[:11], atol=rounding)
    assert done == [4, 4, 3]
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def test_images_are_turned_upright_and_resized(model, gallery, tested, tmp_path, rounding):
    upright = Image.fromarray(gallery.pixels["image"][0])
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # Displayed after a quarter turn to the right.
    turned.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_allclose(model.embed(tmp_path / "turned.png"), tested[:1], atol=rounding)
    larger = upright.resize((96, 192), Image.Resampling.BICUBIC)
    wanted = model.embed(larger.resize((32, 64), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(model.embed(larger), wanted, atol=rounding)


def test_flip_averages_over_the_mirror_image(model, gallery, rounding):
    images = gallery.pixels["image"][:5]
    both = model.embed(images) + model.embed(images[:, :, ::-1])
    wanted = both / np.linalg.norm(both, axis=1, keepdims=True)
    np.testing.assert_allclose(model.embed(images, flip=True), wanted, atol=rounding)


def test_other_streams(model, dataset, rounding):
    split = dataset.split("train")
    images = split.pixels["image"][:4]
    masks = np.where(split.pixels["mask"][:4] > 127, np.uint8(255), np.uint8(0))
    network = model.method.model(model.weights)
    from sicl_jax.data.augment import normalize

    rgb = network.rgb.embed(normalize(images))
    silhouette = network.silhouette.embed(normalize(masks))
    fused = network.fuse(rgb, silhouette, train=False)
    for stream, wanted in (("rgb", rgb), ("silhouette", silhouette), ("fusion", fused)):
        found = model.embed(images, list(masks), stream=stream)
        np.testing.assert_allclose(found, wanted, atol=rounding, err_msg=stream)


def test_bad_pictures_are_named(model, gallery, tmp_path):
    (tmp_path / "words.jpg").write_text("no picture")
    for bad, words in (
        (tmp_path / "words.jpg", "words.jpg: is not a JPEG"),
        (tmp_path / "none.jpg", "none.jpg: cannot be read"),
        (tmp_path, "is a folder"),
        (np.zeros((64, 32, 3), np.float32), "float32 is no picture"),
        (np.zeros((64, 32, 4), np.uint8), "is no picture"),
        ([], "no images"),
    ):
        with pytest.raises(UserError, match=words):
            model.embed(bad)
    told = []
    features = model.embed(
        [gallery.pixels["image"][0], tmp_path / "words.jpg"],
        on_bad=lambda picture, error: told.append((picture, str(error))),
    )
    assert features.shape[0] == 2 and told[0][0] == tmp_path / "words.jpg"


def test_masks_must_be_there_and_as_many(model, gallery):
    with pytest.raises(UsageError, match="needs masks"):
        model.embed(gallery.pixels["image"][:2], stream="fusion")
    with pytest.raises(UserError, match="not as many masks"):
        model.embed(gallery.pixels["image"][:2], [np.zeros((64, 32), np.uint8)], stream="fusion")
    with pytest.raises(UsageError, match="this model has rgb"):
        model.embed(gallery.pixels["image"][:2], stream="depth")


def test_load_names_what_is_wrong(run_copy, tmp_path):
    with pytest.raises(UserError, match="no such workdir or file"):
        sicl_jax.load(tmp_path / "nothing")
    with pytest.raises(UserError, match="no run here"):
        sicl_jax.load(tmp_path)
    with pytest.raises(UsageError, match="choose 'best', 'latest' or a step"):
        sicl_jax.load(run_copy, checkpoint="newest")
    with pytest.raises(UserError, match="3: not kept"):
        sicl_jax.load(run_copy, checkpoint=3)
    for folder in (run_copy / "checkpoints").glob("*/*/state"):
        largest = max(folder.rglob("*"), key=lambda path: path.stat().st_size)
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
    with pytest.raises(UserError, match="other bytes than were written"):
        sicl_jax.load(run_copy)
    shutil.rmtree(run_copy / "checkpoints")
    with pytest.raises(UserError, match="no checkpoint yet"):
        sicl_jax.load(run_copy)


def test_models_tell_themselves_apart(run_folder, model):
    first = sicl_jax.load(run_folder, checkpoint=2)
    assert (first.step, first.epoch) == (2, 1) and (model.step, model.epoch) == (4, 2)
    assert first.fingerprint != model.fingerprint
    assert sicl_jax.load(run_folder, checkpoint=4).fingerprint == model.fingerprint


def test_a_file_of_the_authors_checkpoint(model, gallery, tmp_path, rounding):
    network = model.method.model(model.weights)
    arrays = torch_names.collect(released_weights.names(network.rgb), num_batches=0)
    named = {f"module.{name}": np.asarray(array) for name, array in arrays.items()}
    safetensors.numpy.save_file(named, tmp_path / "encoder.safetensors")
    loaded = sicl_jax.load(tmp_path / "encoder.safetensors")
    assert loaded.image_size == (256, 128)
    image = np.asarray(Image.fromarray(gallery.pixels["image"][0]).resize((128, 256)))
    batch = batch_of({"image": image[None]})
    wanted = model.method.embed(model.method.model(model.weights), batch, "rgb")
    np.testing.assert_allclose(loaded.embed(image), wanted, atol=rounding)
    np.savez(tmp_path / "no_model.npz", x=np.zeros(3))
    with pytest.raises(UserError, match="no_model"):
        sicl_jax.load(tmp_path / "no_model.npz")


def test_the_package_is_imported_without_jax():
    code = "import sys, sicl_jax; assert 'jax' not in sys.modules; sicl_jax.load"
    subprocess.run([sys.executable, "-c", code], check=True)
