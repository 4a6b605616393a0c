"""Keeping an index in step with folders of images."""

import contextlib
import dataclasses
import fnmatch
import pathlib
import shutil

import jax
import numpy as np

from sicl_jax import processes
from sicl_jax.data.pictures import list_images
from sicl_jax.errors import UserError
from sicl_jax.evaluation.progress import MakeBar, silent
from sicl_jax.inference import Model, load
from sicl_jax.retrieval import stores
from sicl_jax.retrieval.facts import camera_reader
from sicl_jax.retrieval.folder import Beside, NoneReadableError, View, embed_folder
from sicl_jax.retrieval.index import Entry, GalleryIndex
from tfds_builders.reid.listing import BESIDE

PORTION = 20_000
"""Images after which an index is saved, while it is small: what a run that is stopped loses."""

_SHARE_SAVED = 16  # A large index is saved whenever it has grown by this share: saving takes long.


@dataclasses.dataclass(frozen=True)
class Changes:
    """What an update did.

    Attributes:
        added: New files, and those that have changed since.
        removed: Files taken out.
        kept: Files that were there before.
        left_out: For each file that could not be read, why.
    """

    added: int
    removed: int
    kept: int
    left_out: tuple[str, ...] = ()


def add_folder(
    model: Model,
    folder: pathlib.Path,
    index_folder: stores.Place,
    *,
    beside: Beside = Beside(),  # noqa: B008 - frozen.
    view: View = View(),  # noqa: B008 - frozen.
    camera: str | None = None,
    skip_bad: bool = False,
    batch_size: int | None = None,
    portion: int = PORTION,
    progress: MakeBar = silent,
) -> Changes:
    """Adds the images below a folder to an index, which is made if there is none.

    Files that are in it already are not embedded again, unless they have changed or what is read
    beside them has; the index is saved after each `portion`, later more rarely, so that a run that
    was stopped goes on where it was. `camera` says where paths say the camera
    (`facts.camera_reader`); what the index has so far if None.

    Several processes (`processes.join`) take a share of the new files each, on their own devices,
    and the first one puts what they made together; what a run that was stopped had made as well.

    Returns:
        What all processes did; of files that were left out, this one's alone.

    Raises:
        UserError: There are no images, one cannot be read, or the index is of another model.
    """
    camera_reader(camera)  # A pattern without sense is told before any work.
    names, view = list_images(folder), view.of(model)
    processes.on_first(lambda: _put_together(index_folder, model, view))
    index = stores.open_if_any(index_folder)
    if index is not None:
        check_model(index, index_folder, model, view)
    known = set(index.entries) if index else set()
    reads = [name for name in model.embedder(view.stream).reads if name in BESIDE]
    entries = Entry.below(folder, names, beside.columns(folder, names, reads).values())
    new = [(name, e) for name, e in zip(names, entries, strict=True) if e not in known]
    if not new:
        if camera not in (None, index.camera):
            index.camera = camera
            processes.on_first(lambda: index.save(index_folder))
        return Changes(0, 0, len(known))
    place, mine = index_folder, dict(processes.share(new))
    if jax.process_count() > 1:
        index, place = None, stores.part(index_folder, jax.process_index())
    left_out: list[str] = []

    def add_mine() -> np.ndarray:
        nonlocal index
        added, unsaved = 0, 0
        with progress(len(mine), "features") as bar:
            for first in range(0, len(mine), portion):
                try:
                    embedded = embed_folder(
                        model,
                        folder,
                        names=list(mine)[first : first + portion],
                        beside=beside,
                        view=view,
                        skip_bad=skip_bad,
                        batch_size=batch_size,
                        progress=lambda *_: contextlib.nullcontext(bar),
                    )
                except NoneReadableError as error:
                    left_out.extend(error.left_out)
                    continue
                if index is None:
                    size = embedded.features.shape[1]
                    index = stores.create(place, model.about(), view, size, camera)
                index.camera = index.camera if camera is None else camera
                index.add([mine[name] for name in embedded.names], embedded.features)
                added, unsaved = added + len(embedded.names), unsaved + len(embedded.names)
                left_out.extend(embedded.left_out)
                if unsaved >= len(index) // _SHARE_SAVED:
                    index.save(place)
                    unsaved = 0
        if unsaved:
            index.save(place)
        return np.array(added)

    added = int(processes.on_each(add_mine, like=np.array(0)).sum())
    if not added:
        raise UserError(f"{folder}: none of its {len(new)} images can be read")
    if jax.process_count() > 1:
        processes.on_first(lambda: _put_together(index_folder, model, view))
        index = stores.open_index(index_folder)
    return Changes(added, 0, len(index) - added, tuple(left_out))


def _put_together(index_folder: stores.Place, model: Model, view: View) -> None:
    """Adds to an index what several processes made for it; removes that when it is saved."""
    parts = stores.parts(index_folder)
    index = stores.open_if_any(index_folder) if parts else None
    for place in parts:
        part = GalleryIndex.open(place)
        check_model(part, place, model, view)
        if index is None:
            index = GalleryIndex(part.model, part.view, part.dimensions)
        index.camera = part.camera or index.camera
        index.add(part.entries, part.features())
    if index is not None:
        index.save(index_folder)
    for place in parts:
        shutil.rmtree(place)


def remove(
    index_folder: stores.Place, patterns: tuple[str, ...], *, missing: bool = False
) -> Changes:
    """Takes files out of an index.

    Args:
        index_folder: The index.
        patterns: Shell patterns; a file goes if its absolute path, or its end, matches one.
        missing: Whether files that are no longer on disk go too.

    Raises:
        UserError: There is no index, or nothing in it matches.
    """
    removed = kept = 0
    for place in (index_folder, *stores.parts(index_folder)):
        index = stores.open_index(place)
        gone = {
            entry.path
            for entry in index.entries
            if any(_matches(entry.path, pattern) for pattern in patterns)
            or (missing and not pathlib.Path(entry.path).exists())
        }
        if gone:
            removed += index.remove(gone)
            index.save(place)
        kept += len(index)
    if patterns and not removed:
        raise UserError(f"--index {index_folder}: no file in it matches {' or '.join(patterns)}")
    return Changes(0, removed, kept)


def load_model(
    index: GalleryIndex,
    folder: stores.Place,
    workdir: pathlib.Path | None = None,
    checkpoint: str | None = None,
) -> Model:
    """The model that made an index.

    Args:
        index: The index.
        folder: Where it lies, for errors.
        workdir: Where the model is; where it was if None.
        checkpoint: Of that run; the index's step if None, the best of another `workdir`.

    Raises:
        UserError: It is not there, or is another one.
    """
    step = index.model["step"]
    model = load(
        workdir or index.model["workdir"],
        checkpoint=checkpoint or ("best" if step is None or workdir else str(step)),
    )
    check_model(index, folder, model)
    return model


def check_model(
    index: GalleryIndex, folder: stores.Place, model: Model, view: View | None = None
) -> None:
    """Refuses an index whose features are of another model, or were made in another way.

    Raises:
        UserError: They are.
    """
    if index.model["model"] != model.fingerprint:
        made = f"{index.model['workdir']}, step {index.model['step']}"
        raise UserError(
            f"--index {folder}: made with another model ({made}) than {model.source}, step "
            f"{model.step}; give that model's --workdir and --checkpoint, or make the index anew"
        )
    if view is not None and view != index.view:
        raise UserError(
            f"--index {folder}: made with stream {index.view.stream}, flip {index.view.flip}, not "
            f"{view.stream}, {view.flip}; use the same, or make the index anew"
        )


def _matches(path: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"*/{pattern}")
