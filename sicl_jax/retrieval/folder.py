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
    masks: pathlib.Path | None = None,
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
        masks: Folder of masks, for the streams that need them: the images' paths, `.png`.
        view: How images are looked at.
        skip_bad: Leave out files that cannot be read instead of stopping.
        batch_size: Images in a batch; the config's if None.
        progress: Makes a progress bar.

    Raises:
        UserError: There are no images, or one cannot be read.
    """
    names = list_images(folder) if names is None else list(names)
    images = [folder / name for name in names]
    paths = [images]
    if masks is not None:
        paths.append([(masks / name).with_suffix(".png") for name in names])
    bad: dict[pathlib.Path, str] = {}

    def note(path: pathlib.Path, error: UserError) -> None:
        bad[path] = str(error)

    with progress(len(names), "features") as bar:
        features = model.embed(
            *paths,
            stream=view.stream,
            flip=view.flip,
            batch_size=batch_size,
            on_batch=bar.advance,
            on_bad=note if skip_bad else None,
        )
    good = [row for row, of_row in enumerate(zip(*paths, strict=True)) if not bad.keys() & of_row]
    if not good:
        raise UserError(f"{folder}: none of its {len(names)} images can be read")
    return Embedded(
        names=tuple(names[row] for row in good),
        features=features if len(good) == len(names) else features[good],
        left_out=tuple(bad.values()),
    )
