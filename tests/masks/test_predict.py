"""`sicl-jax masks` from a checkpoint to files, and what it takes to go on with a folder."""

import json

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from sicl_jax import cli
from sicl_jax.errors import UsageError, UserError
from sicl_jax.masks import extractor, params, predict
from sicl_jax.masks.resize import align_corners_matrix

SIZE = 33


@pytest.fixture
def images(tmp_path):
    """Three images of different sizes."""
    random = np.random.default_rng(0)
    folder = tmp_path / "images"
    for name, shape in {"a/1.jpg": (40, 20), "a/2.png": (25, 31), "3.jpg": (70, 35)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (4, 3, 3), dtype=np.uint8))
        coarse.resize(shape[::-1]).save(folder / name)
    return folder


def main(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code or 0


def expected_logits(parser, image_path):
    """The logits at the image's size, by the parser alone and dense products."""
    pixels = np.asarray(Image.open(image_path).convert("RGB"))[..., ::-1]
    inputs = extractor.normalize(extractor.network_input(pixels, SIZE)[None])
    logits = np.asarray(nnx.jit(lambda model, x: model(x))(parser, inputs).fusion[0])
    resize = align_corners_matrix(SIZE, len(logits))
    large = np.einsum("Hh,hwk,Ww->HWk", resize, logits, resize)
    rows, columns = extractor.way_back(*pixels.shape[:2], SIZE, SIZE)
    return np.einsum("hi,ijk,wj->hwk", rows, large, columns)


def test_the_command_makes_the_parsers_masks(images, schp_pth, parser, tmp_path, capsys):
    output = tmp_path / "masks"
    command = ["masks", "--input", images, "--output", output, "--weights", schp_pth]
    command += ["--input_size", SIZE, "--batch_size", 2, "--dataset", "atr", "--quiet"]
    assert main(*command) == 0
    printed = capsys.readouterr().out
    assert "3 masks written, 0 were there (atr)" in printed
    assert "3 masks, " in printed
    made = {path.relative_to(output).as_posix() for path in output.rglob("*.png")}
    assert made == {"a/1.png", "a/2.png", "3.png"}

    logits = expected_logits(parser, images / "3.jpg")
    top_two = np.sort(logits, axis=-1)[..., -2:]
    clear = top_two[..., 1] - top_two[..., 0] > 1e-3
    with Image.open(output / "3.png") as mask:
        classes = np.asarray(mask)
    assert classes.shape == (70, 35)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(classes[clear], logits.argmax(axis=-1)[clear])


class BackgroundSegment:
    """Stands in for the parser where its masks do not matter: all is background."""

    def __init__(self, parser, input_size):
        del parser
        self.input_size = input_size

    def __call__(self, inputs):
        logits = np.zeros((len(inputs), 16, 16, 20), np.float32)
        logits[..., 0] = 1
        return logits


@pytest.fixture
def background(monkeypatch, tmp_path):
    monkeypatch.setattr(predict, "SchpSegment", BackgroundSegment)
    monkeypatch.setattr(predict, "load_parser", lambda *_, **__: (None, params.Kind("lip", 20, 64)))
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    return weights


def test_report_and_settings(images, background, tmp_path):
    output = tmp_path / "masks"
    report = predict.write_masks(images, output, background, mode="silhouette", quiet=True)
    assert (report.written, report.skipped, report.dataset) == (3, 0, "lip")
    assert (report.quality.total, report.quality.empty) == (3, 3)
    settings = json.loads((output / predict.SETTINGS_FILE).read_text())
    assert settings["mode"] == "silhouette"
    assert settings["dataset"] == "lip"
    assert settings["input_size"] == 64


def test_a_run_goes_on_where_it_stopped(images, background, tmp_path):
    output = tmp_path / "masks"
    predict.write_masks(images, output, background, quiet=True)
    masks = sorted(output.rglob("*.png"))
    before = {mask: mask.stat().st_mtime_ns for mask in masks}
    masks[1].unlink()
    report = predict.write_masks(images, output, background, quiet=True)
    assert (report.written, report.skipped) == (1, 2)
    assert [mask for mask in masks if mask.stat().st_mtime_ns != before[mask]] == [masks[1]]


def test_a_folder_takes_masks_of_one_make_only(images, background, tmp_path):
    output = tmp_path / "masks"
    predict.write_masks(images, output, background, quiet=True)
    with pytest.raises(UserError, match="made otherwise .mode differ"):
        predict.write_masks(images, output, background, mode="silhouette", quiet=True)
    background.write_bytes(b"other weights")
    with pytest.raises(UserError, match="made otherwise .weights_sha256 differ"):
        predict.write_masks(images, output, background, quiet=True)
    for mask in output.rglob("*.png"):
        mask.unlink()  # An emptied folder takes any masks.
    assert predict.write_masks(images, output, background, quiet=True).written == 3


def test_masks_of_another_origin_are_not_mixed_with_ours(images, background, tmp_path):
    (tmp_path / "masks").mkdir()
    Image.new("L", (35, 70)).save(tmp_path / "masks" / "3.png")
    with pytest.raises(UserError, match="masks: holds masks made otherwise"):
        predict.write_masks(images, tmp_path / "masks", background, quiet=True)


def test_unreadable_images_end_the_run_with_a_line(images, background, tmp_path):
    (images / "a" / "broken.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"1 of 4 images cannot be read, the first \S+broken.jpg"):
        predict.write_masks(images, tmp_path / "masks", background, quiet=True)
    assert len(list((tmp_path / "masks").rglob("*.png"))) == 3


@pytest.mark.parametrize(
    ("option", "value"),
    [("mode", "edges"), ("batch_size", 0), ("input_size", 8), ("threads", 0)],
)
def test_bad_arguments_are_named(option, value, tmp_path):
    with pytest.raises(UsageError, match=f"--{option} {value}: "):
        predict.write_masks(tmp_path, tmp_path, tmp_path, **{option: value})


def test_the_command_says_what_is_missing(images, tmp_path, capsys):
    assert main("masks", "--output", tmp_path / "masks", "--input", images) == 2
    assert "--weights: is needed" in capsys.readouterr().err
    missing = ["--input", images, "--weights", tmp_path / "no.pth"]
    assert main("masks", "--output", tmp_path / "masks", *missing) == 1
    error = capsys.readouterr().err
    assert "no.pth" in error
    assert len(error.splitlines()) == 1
