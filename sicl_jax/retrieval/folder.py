"""Features of all images below a folder."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32

from sicl_jax.data.pictures import list_images
from sicl_jax.errors import UserError
from sicl_jax.evaluation.progress import MakeBar, silent
from sicl_jax.inference import Model
from tfds_builders.person_folder.table import MODALITIES


@dataclasses.dataclass(frozen=True)
class View:
    """How images are looked at; features made in two ways do not compare.

    Attributes:
        stream: One of the model's; the one that is tested if None.
        flip: Whether features are summed over each image and its mirror image; as the model's
            config says if None.
    """

    stream: str | None = None
    flip: bool | None = None

    def of(self, model: Model) -> "View":
        """The view with a model's own choices in the place of None."""
        embedder = model.embedder(self.stream, self.flip)
        return View(embedder.stream, embedder.flip)


@dataclasses.dataclass(frozen=True)
class Beside:
    """What lies beside images, for the streams that read it.

    Attributes:
        masks: Folder of masks: the images' paths, `.png`; of a single image the mask itself.
        faces: Folder of faces: the images' paths but for the extension, and an image may lack one;
            of a single image the face itself.
        restored_faces: The same of restored faces, for a stream that reads these; without `faces`
            they stand for them.
        modality: `visible` or `infrared`, of all images; each image's folders say it if None.
    """

    masks: pathlib.Path | None = None
    faces: pathlib.Path | None = None
    restored_faces: pathlib.Path | None = None
    modality: str | None = None

    def columns(
        self, folder: pathlib.Path, names: Sequence[str], reads: Sequence[str]
    ) -> dict[str, list]:
        """The columns that a stream reads, as `Model.embed` takes them.

        Args:
            folder: Of the images.
            names: Their paths below it.
            reads: Columns of the stream.

        Raises:
            UserError: No folder of an image says which modality it is; the faces are of other
                images; or one mask or face is given for several images.
        """
        restored = self.restored_faces if "face_restored" in reads else None
        makers: dict[str, Callable[[], list]] = {
            "image": lambda: [folder / name for name in names],
            "modality": lambda: [self._modality(folder / name) for name in names],
            "face_restored": lambda: [None] * len(names),
        }
        if self.masks:
            makers["mask"] = lambda: self._masks(names)
        if self.faces or restored:
            makers["face"] = lambda: _faces(self.faces or restored, folder, names)
        if restored:
            makers["face_restored"] = lambda: _faces(restored, folder, names)
        return {name: makers[name]() for name in reads if name in makers}

    def _masks(self, names: Sequence[str]) -> list[pathlib.Path]:
        if self.masks.is_file():
            return _itself("masks", self.masks, names)
        return [(self.masks / name).with_suffix(".png") for name in names]

    def _modality(self, image: pathlib.Path) -> int:
        if self.modality is not None:
            return MODALITIES[self.modality]
        named = [part for part in reversed(image.parts[:-1]) if part in MODALITIES]
        if not named:
            raise UserError(
                f"{image}: no folder says its modality; put it below {' or '.join(MODALITIES)}, or "
                "give --modality"
            )
        return MODALITIES[named[0]]


def _faces(
    faces: pathlib.Path, folder: pathlib.Path, names: Sequence[str]
) -> list[pathlib.Path | None]:
    """The face of each image of a folder; None where `faces` has none."""
    if faces.is_file():
        return _itself("faces", faces, names)
    # Of several faces of an image, the PNG file: as when a data set is prepared.
    listed = sorted(list_images(faces), key=lambda name: name.lower().endswith(".png"))
    found = {_stem(name): faces / name for name in listed}
    if not found.keys() & {*map(_stem, names)}:
        others = map(_stem, list_images(folder))  # Perhaps only new images lack one.
        if not found.keys() & {*others}:
            raise UserError(
                f"--faces {faces}: has no face for any image of {folder}; expected "
                f"{faces / _stem(names[0])}.png and so on"
            )
    return [found.get(_stem(name)) for name in names]


def _itself(flag: str, file: pathlib.Path, names: Sequence[str]) -> list[pathlib.Path]:
    """What lies beside a single image.

    Raises:
        UserError: There are several images.
    """
    if len(names) > 1:
        raise UserError(f"--{flag} {file}: one file for {len(names)} images; give a folder")
    return [file]


def _stem(name: str) -> str:
    return str(pathlib.PurePath(name).with_suffix(""))


class NoneReadableError(UserError):
    """None of the files can be read; `left_out` says of each why."""

    def __init__(self, message: str, left_out: Sequence[str]):
        super().__init__(message)
        self.left_out = tuple(left_out)


@dataclasses.dataclass(frozen=True, eq=False)
class Embedded:
    """Features of files.

    Attributes:
        names: N paths below the folder.
        features: (N, D) float32 unit rows.
        left_out: For each file that could not be read, why.
    """

    names: tuple[str, ...]
    features: Float32[np.ndarray, "N D"]
    left_out: tuple[str, ...] = ()


def embed_folder(
    model: Model,
    folder: pathlib.Path,
    *,
    names: Sequence[str] | None = None,
    beside: Beside = Beside(),  # noqa: B008 - frozen.
    view: View = View(),  # noqa: B008 - frozen.
    skip_bad: bool = False,
    batch_size: int | None = None,
    progress: MakeBar = silent,
) -> Embedded:
    """Embeds the images below a folder.

    Args:
        model: What embeds.
        folder: Where images lie, at any depth.
        names: Paths below the folder; all its images if None.
        beside: What lies beside the images.
        view: How images are looked at.
        skip_bad: Leave out files that cannot be read instead of stopping.
        batch_size: Images in a batch; the config's if None.
        progress: Makes a progress bar.

    Raises:
        UserError: There are no images, or one cannot be read.
    """
    names = list_images(folder) if names is None else list(names)
    columns = beside.columns(folder, names, model.embedder(view.stream, view.flip).reads)
    bad: dict[pathlib.Path, str] = {}

    def note(path: pathlib.Path, error: UserError) -> None:
        bad[path] = str(error)

    with progress(len(names), "features") as bar:
        features = model.embed(
            columns=columns,
            stream=view.stream,
            flip=view.flip,
            batch_size=batch_size,
            on_batch=bar.advance,
            on_bad=note if skip_bad else None,
        )
    rows = enumerate(zip(*columns.values(), strict=True))
    good = [row for row, cells in rows if not (bad and bad.keys() & set(cells))]
    if not good:
        message = f"{folder}: none of its {len(names)} images can be read"
        raise NoneReadableError(message, bad.values())
    return Embedded(
        names=tuple(names[row] for row in good),
        features=features if len(good) == len(names) else features[good],
        left_out=tuple(bad.values()),
    )
