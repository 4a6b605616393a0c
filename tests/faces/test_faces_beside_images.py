"""Faces and masks beside the images of a folder or a query: which belongs to which."""

import pathlib
import types

import numpy as np
import pytest
from PIL import Image

from sicl_jax.errors import UserError
from sicl_jax.retrieval import build
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


def test_restored_faces_stand_for_faces_that_are_not_given(folders):
    images, faces = folders
    face, restored = draw(faces / "a.png"), draw(images.parent / "restored" / "in/b.png")
    names, reads = ["a.jpg", "in/b.jpg"], ("face", "has_face", "face_restored", "has_face_restored")
    assert Beside(faces=faces).columns(images, names, reads) == {
        "face": [face, None],
        "face_restored": [None, None],
    }
    alone = Beside(restored_faces=restored.parents[1])
    assert alone.columns(images, names, reads) == {
        "face": [None, restored],
        "face_restored": [None, restored],
    }
    assert "face" not in alone.columns(images, names, READS)


class Embeds:
    """A model that gives the same feature to all, and counts the images that it was given."""

    fingerprint, source, step = "0123456789abcdef", "runs/a", 1

    def __init__(self):
        self.counts = []

    def about(self):
        return {"workdir": self.source, "step": self.step, "model": self.fingerprint}

    def embedder(self, stream=None, flip=None):
        return types.SimpleNamespace(stream=stream or "all", flip=bool(flip), reads=READS)

    def embed(self, *, columns, **_):
        self.counts.append(len(columns["image"]))
        return np.ones((len(columns["image"]), 4), np.float32)


def test_an_image_is_embedded_again_when_its_face_changes(folders, tmp_path):
    images, faces = folders
    face, model = draw(faces / "in/b.png"), Embeds()

    def added() -> int:
        model.counts.clear()
        changes = build.add_folder(model, images, tmp_path / "index", beside=Beside(faces=faces))
        assert changes.added + changes.kept == 3 and changes.added == sum(model.counts)
        return changes.added

    assert [added(), added()] == [3, 0]
    Image.new("RGB", (9, 9)).save(face)
    assert [added(), added()] == [1, 0]
    draw(faces / "a.png")
    assert [added(), added()] == [1, 0]
    face.unlink()
    assert [added(), added()] == [1, 0]
