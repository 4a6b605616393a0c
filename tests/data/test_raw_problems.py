"""Bad raw data: each fault is told with its file, all at once, and can be left out."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import raw_pictures
from click.testing import CliRunner
from PIL import Image
from raw_pictures import forms

from sicl_jax.cli import info
from sicl_jax.cli.prepare import command
from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.pixels import Form
from sicl_jax.data.prepare import ProblemsError, Request, good_images, prepare
from sicl_jax.errors import UsageError, UserError

TRAIN = "rgb/train/002/B_cropped_rgb001"
TEST = "rgb/test/C/005/cropped_rgb002"


def problems_of(prepare_prcc):
    with pytest.raises(ProblemsError) as caught:
        prepare_prcc()
    return {problem.path: problem for problem in caught.value.problems}


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def test_truncated_jpeg(prcc, prepare_prcc):
    truncate(prcc.raw / f"{TRAIN}.jpg")
    (problem,) = problems_of(prepare_prcc).values()
    assert problem.path == f"{TRAIN}.jpg"
    assert "truncated" in problem.detail


def test_empty_and_foreign_files(prcc, prepare_prcc):
    (prcc.raw / f"{TRAIN}.jpg").write_bytes(b"")
    (prcc.raw / f"{TEST}.jpg").write_bytes(b"MZ this is a program")
    found = problems_of(prepare_prcc)
    assert found[f"{TRAIN}.jpg"].detail == "is empty"
    assert "not a JPEG" in found[f"{TEST}.jpg"].detail


def test_name_that_does_not_parse(prcc, prepare_prcc):
    (prcc.raw / f"{TRAIN}.jpg").rename(prcc.raw / "rgb/train/002/D_cropped_rgb001.jpg")
    found = problems_of(prepare_prcc)
    assert found["rgb/train/002/D_cropped_rgb001.jpg"].kind == "name"
    # Its mask now belongs to no image.
    assert found[f"masks/{TRAIN}.png"].kind == "no image"


def test_training_image_without_its_mask(prcc, prepare_prcc):
    (prcc.masks / f"{TRAIN}.png").unlink()
    (problem,) = problems_of(prepare_prcc).values()
    assert (problem.path, problem.kind) == (f"{TRAIN}.jpg", "no mask")


def test_test_image_needs_no_mask(prcc, prepare_prcc):
    (prcc.masks / f"{TEST}.png").unlink()
    prepared = prepare_prcc()
    split = load_dataset("prcc", prepared.store.directory.parents[1]).split("query_changed")
    assert not split.all_have("mask")
    assert prepared.store.metadata["card"]["query_changed"]["masks"] == len(split) - 1


def test_mask_without_its_image(prcc, prepare_prcc):
    (prcc.raw / f"{TEST}.jpg").unlink()
    (problem,) = problems_of(prepare_prcc).values()
    assert (problem.path, problem.kind) == (f"masks/{TEST}.png", "no image")


def test_mask_of_another_size(prcc, prepare_prcc):
    Image.new("L", (24, 47)).save(prcc.masks / f"{TRAIN}.png")
    (problem,) = problems_of(prepare_prcc).values()
    assert problem.path == f"masks/{TRAIN}.png"
    assert problem.detail == "is 24 x 47 pixels, but its image is 24 x 48"


def test_jpeg_for_a_mask(prcc, prepare_prcc):
    Image.new("L", (24, 48)).save(prcc.masks / f"{TRAIN}.png", format="JPEG")
    (problem,) = problems_of(prepare_prcc).values()
    assert "must be PNG" in problem.detail


def test_identity_in_training_and_test(prcc, prepare_prcc):
    for folder in (prcc.raw, prcc.masks):
        (folder / "rgb/train/005").mkdir()
        for path in (folder / "rgb/test/A/005").iterdir():
            target = folder / "rgb/train/005" / f"A_{path.name}"
            target.write_bytes(path.read_bytes())
    found = problems_of(prepare_prcc)
    assert {problem.kind for problem in found.values()} == {"identity shared"}
    assert all(path.startswith("rgb/train/005/") for path in found)


def test_all_problems_come_at_once_and_can_be_left_out(prcc, prepare_prcc, tmp_path):
    truncate(prcc.raw / f"{TRAIN}.jpg")
    Image.new("L", (9, 9)).save(prcc.masks / f"{TEST}.png")
    (prcc.masks / "rgb/train/003/A_cropped_rgb001.png").unlink()
    (prcc.raw / "rgb/train/003/holiday.jpg").write_bytes(b"x")
    assert len(problems_of(prepare_prcc)) == 4
    assert not (tmp_path / "data/prcc/1.0.0").exists()

    prepared = prepare_prcc(skip_bad=True)
    data_set = load_dataset("prcc", tmp_path / "data")
    # Two training images are gone; the test image stays, without its mask.
    assert f"{TRAIN}.jpg" not in data_set.split("train").names
    assert "rgb/train/003/A_cropped_rgb001.jpg" not in data_set.split("train").names
    assert len(data_set.split("train")) == len(prcc.labels["train"]) - 2
    assert f"{TEST}.jpg" in data_set.split("query_changed").names
    with (prepared.store.directory / "problems.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["path"], row["left_out"]) for row in rows} == {
        (f"{TRAIN}.jpg", "image"),
        (f"masks/{TEST}.png", "mask"),
        ("rgb/train/003/A_cropped_rgb001.jpg", "image"),
        ("rgb/train/003/holiday.jpg", "image"),
    }


def test_command_line_tells_all_and_ends_with_one(prcc, tmp_path):
    truncate(prcc.raw / f"{TRAIN}.jpg")
    arguments = ["prcc", "--raw", prcc.raw, "--masks", prcc.masks, "--data_dir", tmp_path / "data"]
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert isinstance(result.exception, UserError)
    assert result.exception.exit_code == 1
    assert f"{TRAIN}.jpg: cannot be decoded" in result.stderr
    assert "\n" not in str(result.exception)
    assert "--skip_bad" in str(result.exception)
    assert str(tmp_path / "data/prcc/problems.csv") in str(result.exception)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("nowhere", "nowhere is not a folder"),
        ("raw/rgb/train", "has no folder rgb/train"),
        ("raw/rgb", "did you mean .*raw"),
    ],
)
def test_wrong_folder(prcc, prepare_prcc, tmp_path, raw, message):  # noqa: ARG001
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=message):
        prepare_prcc(raw=tmp_path / raw, masks=None)


def test_empty_folder(prcc, prepare_prcc):
    for path in (prcc.raw / "rgb/test/B").rglob("*.jpg"):
        path.unlink()
    with pytest.raises(UserError, match="rgb/test/B holds no images"):
        prepare_prcc()


def test_masks_of_another_tree(prcc, prepare_prcc):
    with pytest.raises(UserError, match=r"no mask for any image; expected .*A_cropped_rgb001\.png"):
        prepare_prcc(masks=prcc.masks / "rgb")
    with pytest.raises(UserError, match="holds no masks"):
        prepare_prcc(masks=_empty(prcc))


def _empty(prcc):
    folder = prcc.masks.parent / "empty"
    folder.mkdir()
    return folder


def test_other_files_are_not_taken_for_the_prepared_ones(prcc, prepare_prcc):
    first = prepare_prcc()
    (prcc.raw / f"{TEST}.jpg").unlink()
    (prcc.masks / f"{TEST}.png").unlink()
    with pytest.raises(UserError, match="prepared from other files; give --overwrite"):
        prepare_prcc()
    second = prepare_prcc(overwrite=True)
    assert second.store.metadata["fingerprint"] != first.store.metadata["fingerprint"]
    assert second.store.examples["query_changed"] == first.store.examples["query_changed"] - 1


def test_touched_files_are_the_same_data_set(prcc, prepare_prcc):
    prepare_prcc()
    (prcc.raw / f"{TEST}.jpg").touch()
    assert prepare_prcc().was_there


def test_without_masks(prepare_prcc):
    prepared = prepare_prcc(masks=None)
    assert any("no masks" in warning for warning in prepared.warnings)
    split = load_dataset("prcc", prepared.store.directory.parents[1]).split("train")
    assert not split.labels["has_mask"].any()


def test_masks_in_the_raw_folder_are_found(prcc, prepare_prcc):
    prcc.masks.rename(prcc.raw / "masks")
    prepared = prepare_prcc(masks=None)
    assert prepared.store.metadata["card"]["train"]["masks"] == len(prcc.labels["train"])


def test_masks_that_show_nobody_are_mentioned(prcc, prepare_prcc):
    Image.fromarray(np.zeros((48, 24), bool)).save(prcc.masks / f"{TRAIN}.png")
    assert "1 mask shows no person" in prepare_prcc().warnings


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pcc", "did you mean prcc"),
        ("Celeb-reID", "did you mean celeb_reid"),
        ("veri", "choose one of: ccvid, .*vc_clothes"),
        ("DukeMTMC-reID", "withdrawn by its authors"),
        ("synthetic_people", "synthetic_people/tiny"),
        ("synthetic_people/huge", "synthetic_people/tiny"),
        ("prcc/large", "prcc has no configs"),
        ("../prcc", "no data set"),
    ],
)
def test_wrong_names(name, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        prepare(Request(name, tmp_path / "data", tmp_path))
    assert not (tmp_path / "data").exists()


def test_generated_data_sets_take_no_raw_folder_and_others_need_one(tmp_path):
    with pytest.raises(UsageError, match="takes no --raw"):
        prepare(Request("synthetic_people/tiny", tmp_path / "data", tmp_path / "raw"))
    with pytest.raises(UsageError, match="needs --raw"):
        prepare(Request("ltcc", tmp_path / "data"))


def test_images_to_make_masks_for(prcc, tmp_path):
    """All good images, whatever masks lie about; bad ones are told before hours of work."""
    prcc.masks.rename(prcc.raw / "masks")
    request = Request("prcc", tmp_path / "data", prcc.raw)
    assert sorted(good_images(request)) == sorted(prcc.pictures)
    truncate(prcc.raw / f"{TRAIN}.jpg")
    with pytest.raises(ProblemsError):
        good_images(request)
    left = good_images(dataclasses.replace(request, skip_bad=True))
    assert sorted(left) == sorted(prcc.pictures.keys() - {f"{TRAIN}.jpg"})
    with pytest.raises(UsageError, match="--raw"):
        good_images(Request("synthetic_people/tiny", tmp_path / "data"))


def test_masks_made_on_the_way(prcc, tmp_path, monkeypatch):
    """`--masks auto` makes a mask of each image in the data folder, and prepares with them."""

    def write_masks(input_dir, output_dir, weights, *, names, quiet):  # noqa: ARG001
        for name in names:
            path = (output_dir / name).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            prcc.pictures[name].mask.save(path)

    monkeypatch.setattr("sicl_jax.masks.predict.write_masks", write_masks)
    arguments = ["prcc", "--raw", prcc.raw, "--data_dir", tmp_path / "data", "--masks", "auto"]
    arguments = [str(argument) for argument in arguments]
    result = CliRunner().invoke(command, [*arguments, "--mask_weights", "schp.pth"])
    assert result.exit_code == 0, result.output
    split = load_dataset("prcc", tmp_path / "data", forms=forms((48, 24))).split("train")
    for row, name in enumerate(split.names):
        np.testing.assert_array_equal(
            split.pixels["mask"][row], np.asarray(prcc.pictures[name].mask)
        )
    result = CliRunner().invoke(command, arguments)
    assert isinstance(result.exception, UsageError)


def test_info_prints_the_card(prcc, prepare_prcc, tmp_path):
    prepare_prcc()
    arguments = ["prcc", "--data_dir", str(tmp_path / "data")]
    text = CliRunner().invoke(info.command, arguments).output
    assert f"{len(prcc.labels['train'])} (published 17,896)" in text
    assert "This copy differs from what was published" in text
    told = json.loads(CliRunner().invoke(info.command, [*arguments, "--json"]).output)
    assert told["card"]["train"]["images"] == len(prcc.labels["train"])
    assert told["published"]["train"] == {"images": 17_896, "identities": 150}
    assert "It suits the methods: " in text
    assert told["lacking"]["cssc"] == told["lacking"]["sicl"] == []


def test_info_says_what_a_method_lacks(prepare_prcc, tmp_path):
    prepare_prcc(masks=None)
    arguments = ["prcc", "--data_dir", str(tmp_path / "data")]
    text = CliRunner().invoke(info.command, arguments).output
    assert "Training has no masks for sicl" in text


def test_tiff_and_gif_are_read_and_what_is_no_image_is_named(tmp_path):
    first, second = (drawn.image for drawn in raw_pictures.people((1,))[:2])
    crops = tmp_path / "crops"
    crops.mkdir()
    first.save(crops / "a.jpg")
    for number in range(4):
        first.save(crops / f"b{number}.tif", save_all=True, append_images=[second])
        first.save(crops / f"c{number}.gif", save_all=True, append_images=[second])
    for number in range(12):
        (crops / f"note{number:02}.txt").write_text("not an image")
    prepared = prepare(Request("person_folder", tmp_path / "data", crops))
    assert prepared.store.examples == {"train": 9}
    (warning,) = [line for line in prepared.warnings if "masks" not in line]
    assert warning.startswith("12 files that are no images, left alone: note00.txt, note01.txt")
    assert warning.endswith("note09.txt and 2 more")
    columns = {"image": Form(first.size[::-1])}
    split = load_dataset("person_folder", tmp_path / "data", forms=columns).split("train")
    for name, pixels in zip(split.names, split.pixels["image"], strict=True):
        tolerance = {"a.jpg": 9, "tif": 0, "gif": 9}[name if name == "a.jpg" else name[-3:]]
        difference = np.abs(pixels.astype(int) - np.asarray(first))
        assert difference.mean() <= tolerance, name  # The first frame, not the second.
        other = np.abs(pixels.astype(int) - np.asarray(second))
        assert difference.mean() < other.mean()


@pytest.mark.parametrize("flag", ["raw", "masks", "faces"])
def test_what_is_written_is_never_read(prcc, tmp_path, flag):
    folders = {"raw": prcc.raw, "masks": prcc.masks, "faces": prcc.masks} | {
        flag: tmp_path / "folder"
    }
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=f"--data_dir .*data lies in --{flag} ") as caught:
        prepare(Request("prcc", tmp_path / "folder/data", **folders))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "folder/data").exists()
