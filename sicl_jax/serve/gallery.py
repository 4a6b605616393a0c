"""The index behind the server: read anew when a command has changed it, its images by id.

A request names images by ids alone, digests of their paths, and folders as they were listed to
it. Nothing of a request becomes a path.
"""

import datetime
import hashlib
import os
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

from sicl_jax.errors import UserError
from sicl_jax.inference import Model
from sicl_jax.retrieval import build
from sicl_jax.retrieval import index as indexes
from sicl_jax.retrieval.facts import Where
from sicl_jax.serve.problems import ApiError

_SECONDS_BETWEEN_LOOKS = 0.5


def image_id(path: str) -> str:
    """24 hexadecimal digits that stand for a file."""
    data = path.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(data, digest_size=12).hexdigest()


class Snapshot:
    """An index as it is at one moment.

    Attributes:
        index: The index.
        paths: Of its images.
        ids: Of its images, in the same order.
        folders: Absolute folders by what they are called here: below the common one.
    """

    def __init__(self, index: indexes.GalleryIndex):
        self.index = index
        self.paths = [entry.path for entry in index.entries]
        self.ids = [image_id(path) for path in self.paths]
        self._rows = {name: row for row, name in enumerate(self.ids)}
        _ = index.facts, index.rows  # Made before requests need them.
        there = index.facts.folders
        self._root = os.path.commonpath(there) if there else "/"
        self.folders = {}
        for folder in there:
            self.folders[self._shown(folder)] = folder
            for above in pathlib.PurePath(folder).parents:
                if self._shown(str(above)) in self.folders or str(above) == self._root:
                    break
                self.folders[self._shown(str(above))] = str(above)

    def _shown(self, path: str) -> str:
        return path.removeprefix(self._root).strip("/") or "."

    def path(self, name: str) -> str:
        """The path of an image.

        Raises:
            ApiError: There is no image of this id.
        """
        return self.paths[self.row(name)]

    def row(self, name: str) -> int:
        """The place of an image.

        Raises:
            ApiError: There is no image of this id.
        """
        try:
            return self._rows[name]
        except KeyError:
            raise ApiError(404, "there is no such image in the index") from None

    def shown(self, path: str) -> dict[str, Any] | None:
        """What is told of an image; None if it is no longer in the index."""
        row = self.index.rows.get(path)
        if row is None:
            return None
        facts = self.index.facts[row]
        moment = datetime.datetime.fromtimestamp(facts.time, datetime.UTC)
        return {
            "id": self.ids[row],
            "name": path.rpartition("/")[2],
            "folder": self._shown(facts.folder),
            "camera": facts.camera,
            "modality": facts.modality,
            "time": moment.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }

    def where(self, asked: dict[str, Any]) -> Where:
        """A request's filters.

        Raises:
            ApiError: A folder is none of the index's.
        """
        unknown = [name for name in asked.get("folders", ()) if name not in self.folders]
        if unknown:
            raise ApiError(400, "where.folders: there is no such folder in the index")
        return Where(
            frozenset(asked.get("cameras", ())),
            frozenset(self.folders[name] for name in asked.get("folders", ())),
            frozenset(asked.get("modalities", ())),
            asked.get("since"),
            asked.get("until"),
        )


class Gallery:
    """The newest state of an index on disk.

    Args:
        folder: Of the index.
        model: What made it.
        on_new: Told of each state that is read.

    Attributes:
        fault: Why what is on disk now cannot be shown; None if it can.

    Raises:
        UserError: There is no index, or it is of another model.
    """

    def __init__(
        self, folder: pathlib.Path, model: Model, on_new: Callable[[Snapshot], object] = id
    ):
        self.folder = folder
        self._model = model
        self._on_new = on_new
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._stamp = indexes.stamp(folder)
        self.fault: str | None = None
        self._snapshot = self._open()

    def _open(self) -> Snapshot:
        index = indexes.GalleryIndex.open(self.folder)
        build.check_model(index, self.folder, self._model)
        snapshot = Snapshot(index)
        self._on_new(snapshot)
        return snapshot

    def now(self) -> Snapshot:
        """The index; one request at a time reads a new one, the others use what there is."""
        is_due = time.monotonic() - self._looked > _SECONDS_BETWEEN_LOOKS
        if is_due and self._lock.acquire(blocking=False):
            try:
                self._looked = time.monotonic()
                stamp = indexes.stamp(self.folder)
                if stamp != self._stamp:
                    self._snapshot, self.fault = self._open(), None
                    self._stamp = stamp
            except UserError as error:
                self.fault = str(error)
            finally:
                self._lock.release()
        return self._snapshot
