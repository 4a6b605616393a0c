"""Features of all images below a folder."""

import dataclasses
import pathlib
from collections.abc import Sequence

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
        masks: Folder of masks: the images' paths, `.png`.
        faces: Folder of faces: the images' paths; an image may lack one.
        modality: `visible` or `infrared`, of all images; each image's folders say it if None.
    """

    masks: pathlib.Path | None = None
    faces: pathlib.Path | None = None
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
            UserError: No folder of an image says which modality it is.
        """
        columns: dict[str, list] = {"image": [folder / name for name in names]}
        if self.masks is not None:
            columns["mask"] = [(self.masks / name).with_suffix(".png") for name in names]
        if self.faces is not None:
            faces = [self.faces / name for name in names]
            columns["face"] = [face if face.is_file() else None for face in faces]
        if "modality" in reads:
            columns["modality"] = [self._modality(folder / name) for name in names]
        return {name: column for name, column in columns.items() if name in reads}

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
    good = [row for row, cells in rows if not bad.keys() & set(cells)]
    if not good:
        raise UserError(f"{folder}: none of its {len(names)} images can be read")
    return Embedded(
        names=tuple(names[row] for row in good),
        features=features if len(good) == len(names) else features[good],
        left_out=tuple(bad.values()),
    )
