"""Faces and restored faces beside the images: found, counted, read; and what may be wrong."""

import json

import numpy as np
import pytest
import raw_pictures
import raw_trees
from click.testing import CliRunner
from PIL import Image

from sicl_jax.cli import info
from sicl_jax.cli.prepare import command
from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.pixels import Form
from sicl_jax.data.prepare import ProblemsError, Request, prepare
from sicl_jax.errors import UsageError, UserError

FORMS = {"face": Form((12, 12)), "face_restored": Form((48, 48))}


@pytest.fixture
def faces(prcc, tmp_path):
    """Writes faces of all but the first four training images of PRCC."""
    lacking = sorted(name for name in prcc.pictures if "/train/" in name)[:4]
    for name, drawn in prcc.pictures.items():
        if name not in lacking:
            raw_pictures.write_faces(tmp_path, ("faces", "restored"), name, drawn)
    return {"faces": tmp_path / "faces", "restored_faces": tmp_path / "restored"}


def test_faces_are_laid_beside_their_images(prcc, prepare_prcc, faces, tmp_path):
    prepared = prepare_prcc(**faces)
    count = len(prcc.labels["train"])
    assert prepared.warnings == [
        f"train: 4 of {count} images have no face",
        f"train: 4 of {count} images have no restored face",
    ]
    card = prepared.store.metadata["card"]
    assert card["train"]["faces"] == card["train"]["restored_faces"] == count - 4
    assert card["gallery"]["faces"] == card["gallery"]["images"]
    split = load_dataset("prcc", tmp_path / "data", forms=FORMS).split("train")
    for row, name in enumerate(split.names):
        path = (faces["faces"] / name).with_suffix(".jpg")
        for column in FORMS:
            assert split.labels[f"has_{column}"][row] == path.exists()
        if path.exists():
            with Image.open(path) as face:
                np.testing.assert_array_equal(split.pixels["face"][row], np.asarray(face))
        assert split.pixels["face_restored"][row].any() == path.exists()


def test_info_says_how_many(prepare_prcc, faces, tmp_path):
    prepare_prcc(**faces)
    arguments = ["prcc", "--data_dir", str(tmp_path / "data")]
    header, train, *_ = CliRunner().invoke(info.command, arguments).output.splitlines()[1:]
    assert header.split()[-3:] == ["faces", "restored", "faces"]
    assert train.split()[-1] == train.split()[-2] != "0"


def test_deskpro_suits_faces_that_nobody_restored(prepare_prcc, faces, tmp_path):
    arguments = ["prcc", "--data_dir", str(tmp_path / "data"), "--json"]
    prepare_prcc(faces=faces["faces"])
    told = json.loads(CliRunner().invoke(info.command, arguments).output)
    assert told["lacking"]["deskpro"] == []
    prepare_prcc(overwrite=True)
    told = json.loads(CliRunner().invoke(info.command, arguments).output)
    assert told["lacking"]["deskpro"] == ["faces"] and told["lacking"]["lmbn"] == []


def test_faces_in_the_raw_folder_are_found(prcc, prepare_prcc, faces):
    faces["faces"].rename(prcc.raw / "faces")
    prepared = prepare_prcc()
    assert prepared.store.metadata["card"]["query_same"]["faces"] > 0


def test_faces_change_the_fingerprint_and_their_absence_does_not(prepare_prcc, faces):
    without = prepare_prcc().store.metadata["fingerprint"]
    with pytest.raises(UserError, match="prepared from other files"):
        prepare_prcc(**faces)
    assert prepare_prcc(overwrite=True, **faces).store.metadata["fingerprint"] != without


def test_faces_of_other_images(prepare_prcc, faces, tmp_path):
    with pytest.raises(
        UserError, match="faces/rgb has no face for any image; expected .*A_cropped"
    ):
        prepare_prcc(faces=faces["faces"] / "rgb")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no faces; leave it out"):
        prepare_prcc(faces=tmp_path / "empty")
    with pytest.raises(UserError, match="no restored face for any image"):
        prepare_prcc(faces=faces["faces"], restored_faces=faces["restored_faces"] / "rgb")


def test_faces_without_an_image_are_counted(prepare_prcc, faces):
    for name in ("a.jpg", "rgb/b.png"):
        Image.new("RGB", (8, 8)).save(faces["faces"] / name)
    assert "2 faces belong to no image, left alone" in prepare_prcc(**faces).warnings


def test_a_bad_face_is_a_problem_and_its_image_is_kept(prcc, prepare_prcc, faces, tmp_path):
    name = next(name for name in prcc.pictures if "/test/B/" in name)
    path = (faces["faces"] / name).with_suffix(".jpg")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ProblemsError) as caught:
        prepare_prcc(**faces)
    (problem,) = caught.value.problems
    assert (problem.kind, problem.left_out) == ("bad face", "face")
    assert problem.path == f"faces/{path.relative_to(faces['faces'])}"
    prepare_prcc(**faces, skip_bad=True)
    split = load_dataset("prcc", tmp_path / "data").split("query_same")
    row = split.names.index(name)
    assert [bool(has) for has in split.labels["has_face"]] == [r != row for r in range(len(split))]


def test_restored_faces_come_with_faces(prcc, faces, tmp_path):
    words = ["prcc", "--raw", prcc.raw, "--data_dir", tmp_path / "data", "--restored_faces"]
    done = CliRunner().invoke(command, [str(word) for word in (*words, faces["restored_faces"])])
    assert isinstance(done.exception, UsageError) and "give --faces too" in str(done.exception)


def test_deskpros_tree(tmp_path):
    """Everything is kept, whatever it lacks; masks are grey JPEG files, as the authors' are."""
    tree = raw_trees.write_deskpro(tmp_path)
    for path in list(tree.masks.rglob("*.png")):
        Image.open(path).convert("RGB").save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    lacking = next(tree.masks.glob("bounding_box_train/*.jpg"))
    lacking.unlink()
    prepared = prepare(Request("deskpro/prcc", tmp_path / "data", tree.raw))
    card = prepared.store.metadata["card"]["train"]
    assert card["images"] == 18 == card["masks"] + 1
    assert card["faces"] == card["restored_faces"] == 15
    forms = FORMS | {"mask": Form((48, 24), "bilinear", "keep")}
    split = load_dataset("deskpro/prcc", tmp_path / "data", forms=forms).split("train")
    for row, name in enumerate(split.names):
        has = lacking.stem not in name
        assert split.labels["has_mask"][row] == has
        expected = np.asarray(tree.pictures[name].mask) if has else np.zeros((48, 24))
        assert np.abs(split.pixels["mask"][row].astype(int) - expected).mean() < 4


def test_deskpros_names_without_a_c(tmp_path):
    tree = raw_trees.write_deskpro(tmp_path)
    for path in list(tree.raw.rglob("*_c*.*")):
        path.rename(path.with_name(path.name.replace("_c", "_")))
    with pytest.raises(ProblemsError, match="problems .* name"):
        prepare(Request("deskpro/celeb_reid", tmp_path / "data", tree.raw))
    prepare(Request("deskpro/celeb_reid_light", tmp_path / "data", tree.raw))
    split = load_dataset("deskpro/celeb_reid_light", tmp_path / "data").split("query")
    assert set(split.labels["camera"].tolist()) == {1, 2, 3}
