"""The walk through a tree of images, with a parser that tells colours apart."""

import numpy as np
import pytest
from PIL import Image

from sicl_jax.errors import UserError
from sicl_jax.masks import walk
from sicl_jax.masks.predict import silhouette_png
from tfds_builders.reid.features import encode_png

SIZE = 192


class ColourSegment:
    """Logits are the input's own blue, green and red: black and blue are class 0, red is 2."""

    input_size = SIZE

    def __init__(self):
        self.shapes = []

    def __call__(self, inputs):
        self.shapes.append(inputs.shape)
        return np.asarray(inputs, np.float32)


def save_image(path, height, width):
    """Writes an image of vertical bands of pure colours and returns the classes it stands for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    classes = np.broadcast_to(np.arange(width) * 3 // width, (height, width))
    blue_green_red = np.eye(3, dtype=np.uint8)[classes] * 255
    Image.fromarray(blue_green_red[..., ::-1]).save(path)
    return classes


@pytest.fixture
def tree(tmp_path):
    """Images of mixed sizes, one of them larger than the input, and the classes of each."""
    shapes = {
        "a/1.png": (40, 20),
        "a/2.bmp": (64, 64),
        "a/deep/3.PNG": (30, 70),
        "b/4.png": (90, 33),
        "5.png": (21, 9),
    }
    folder = tmp_path / "images"
    classes = {name: save_image(folder / name, *shape) for name, shape in shapes.items()}
    (folder / ".hidden").mkdir()
    save_image(folder / ".hidden" / "no.png", 9, 9)
    save_image(folder / ".no.png", 9, 9)
    (folder / "a" / "list.txt").write_text("not an image")
    return folder, classes


def run(tasks, segment=None, **options):
    options = {"encode": encode_png, "batch_size": 2, "threads": 3, **options}
    return walk.run_tasks(tasks, segment or ColourSegment(), **options)


def test_masks_lie_on_their_images(tree, tmp_path):
    folder, classes = tree
    segment, done = ColourSegment(), []
    tasks = walk.list_tasks(folder, tmp_path / "masks")
    assert [task.image.relative_to(folder).as_posix() for task in tasks] == [
        "5.png",
        "a/1.png",
        "a/2.bmp",
        "a/deep/3.PNG",
        "b/4.png",
    ]
    assert run(tasks, segment, on_done=done.append) == []
    for name, expected in classes.items():
        with Image.open((tmp_path / "masks" / name).with_suffix(".png")) as mask:
            np.testing.assert_array_equal(np.asarray(mask), expected, err_msg=name)
    assert segment.shapes == [(2, SIZE, SIZE, 3)] * 3  # One size, the last batch filled up.
    assert sum(done) == 5
    files = [path for path in (tmp_path / "masks").rglob("*") if path.is_file()]
    assert len(files) == 5


def test_an_image_larger_than_the_input(tmp_path):
    classes = save_image(tmp_path / "in" / "large.png", 500, 270)
    run(walk.list_tasks(tmp_path / "in", tmp_path / "out"), encode=silhouette_png)
    with Image.open(tmp_path / "out" / "large.png") as mask:
        values = np.asarray(mask)
    assert values.shape == (500, 270)
    wrong = np.flatnonzero((values != np.where(classes > 0, 255, 0)).any(axis=0))
    assert set(wrong) <= set(range(87, 93))  # The band's border is at column 90.


def test_a_turned_photograph_gets_its_mask_as_displayed(tmp_path):
    classes = save_image(tmp_path / "in" / "1.png", 40, 20)
    with Image.open(tmp_path / "in" / "1.png") as image:
        exif = image.getexif()
        exif[0x0112] = 6  # To be shown turned clockwise by 90 degrees.
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "in" / "1.png", exif=exif)
    run(walk.list_tasks(tmp_path / "in", tmp_path / "out"))
    with Image.open(tmp_path / "out" / "1.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), classes)


def test_named_images_only(tree, tmp_path):
    folder, _ = tree
    tasks = walk.list_tasks(folder, tmp_path / "masks", ["b/4.png", "a/deep/3.PNG"])
    assert run(tasks) == []
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("masks/**/*.png")}
    assert made == {"masks/b/4.png", "masks/a/deep/3.png"}


def test_unreadable_images_are_told_and_the_others_done(tree, tmp_path):
    folder, classes = tree
    data = (folder / "b" / "4.png").read_bytes()
    (folder / "b" / "cut.png").write_bytes(data[: len(data) // 2])
    (folder / "b" / "text.jpg").write_text("no image at all")
    failures = run(walk.list_tasks(folder, tmp_path / "masks"))
    assert len(failures) == 2
    assert "cut.png" in failures[0]
    assert "text.jpg" in failures[1]
    assert len(list((tmp_path / "masks").rglob("*.png"))) == len(classes)


def test_a_whole_batch_of_unreadable_images(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "abc":
        (tmp_path / "in" / f"{name}.jpg").write_text("no image")
    segment = ColourSegment()
    assert len(run(walk.list_tasks(tmp_path / "in", tmp_path / "out"), segment)) == 3
    assert segment.shapes == []


def test_no_mask_is_ever_half_written(tree, tmp_path, monkeypatch):
    folder, classes = tree
    tasks = walk.list_tasks(folder, tmp_path / "masks")
    left_by_a_killed_run = tmp_path / "masks" / "a" / ".1.png.partial"
    left_by_a_killed_run.parent.mkdir(parents=True)
    left_by_a_killed_run.write_bytes(b"half")

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full_disk:
        full_disk.setattr(walk.Path, "replace", fail)
        with pytest.raises(UserError, match=r"masks/\S+\.png: cannot be written: No space left"):
            run(tasks)
    assert not list((tmp_path / "masks").rglob("*.png"))
    assert run(tasks) == []
    files = {path for path in (tmp_path / "masks").rglob("*") if path.is_file()}
    assert files == {task.mask for task in tasks}
    assert len(files) == len(classes)


def test_masks_inside_the_tree_are_not_taken_for_images(tree):
    folder, classes = tree
    assert run(walk.list_tasks(folder, folder / "masks")) == []
    tasks = walk.list_tasks(folder, folder / "masks")
    assert len(tasks) == len(classes)
    assert all(task.mask.exists() for task in tasks)


def test_unusable_folders(tree, tmp_path):
    folder, _ = tree
    with pytest.raises(UserError, match="missing: is not a folder"):
        walk.list_tasks(tmp_path / "missing", tmp_path / "masks")
    with pytest.raises(UserError, match="holds the images; choose another"):
        walk.list_tasks(folder, folder / "a" / "..")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no images"):
        walk.list_tasks(tmp_path / "empty", tmp_path / "masks")
    save_image(folder / "a" / "1.jpg", 9, 9)
    with pytest.raises(UserError, match=r"1\.png: its mask would have the name of 1\.jpg's"):
        walk.list_tasks(folder, tmp_path / "masks")
