"""Faces and masks beside the images of a folder or a query: which belongs to which."""

import pathlib

import pytest
from PIL import Image

from sicl_jax.errors import UserError
from sicl_jax.retrieval.folder import Beside

READS = ("image", "face", "has_face")


@pytest.fixture
def folders(tmp_path):
    """Images `a.jpg`, `in/b.jpg` and `in/c.jpg`, and a folder of faces, empty."""
    images, faces = tmp_path / "images", tmp_path / "faces"
    for name in ("a.jpg", "in/b.jpg", "in/c.jpg"):
        draw(images / name)
    faces.mkdir()
    return images, faces


def draw(path: pathlib.Path) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    return path


def test_a_face_is_found_whatever_its_extension(folders):
    images, faces = folders
    first, jpeg, png = (draw(faces / name) for name in ("a.png", "in/b.jpg", "in/b.png"))
    columns = Beside(faces=faces).columns(images, ["a.jpg", "in/b.jpg", "in/c.jpg"], READS)
    assert columns == {
        "image": [images / "a.jpg", images / "in/b.jpg", images / "in/c.jpg"],
        "face": [first, png, None],
    }
    png.unlink()
    assert Beside(faces=faces).columns(images, ["in/b.jpg"], READS)["face"] == [jpeg]


def test_images_without_a_face_may_be_added_alone(folders):
    images, faces = folders
    draw(faces / "a.png")
    assert Beside(faces=faces).columns(images, ["in/c.jpg"], READS)["face"] == [None]


def test_faces_of_other_images_are_refused(folders):
    images, faces = folders
    with pytest.raises(UserError, match="no images in this folder"):
        Beside(faces=faces).columns(images, ["a.jpg"], READS)
    draw(faces / "images" / "a.png")
    with pytest.raises(UserError, match=r"no face for any image of .*expected .*faces/a.png and"):
        Beside(faces=faces).columns(images, ["a.jpg"], READS)
    with pytest.raises(UserError, match="nowhere is not a folder"):
        Beside(faces=faces / "nowhere").columns(images, ["a.jpg"], READS)
    assert "face" not in Beside(faces=faces).columns(images, ["a.jpg"], ("image",))


def test_a_single_images_face_and_mask_may_be_named_themselves(folders):
    images, faces = folders
    face = draw(faces / "of_somebody.png")
    reads = (*READS, "mask")
    columns = Beside(masks=face, faces=face).columns(images, ["a.jpg"], reads)
    assert columns["face"] == columns["mask"] == [face]
    with pytest.raises(UserError, match="--faces .*one file for 2 images; give a folder"):
        Beside(faces=face).columns(images, ["a.jpg", "in/b.jpg"], reads)
