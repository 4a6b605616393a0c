"""What the server can be asked, one method a question; HTTP is in `app`."""

import dataclasses
import hashlib
import io
import re
import tempfile
import threading
import time
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

import sicl_jax
from sicl_jax.errors import UserError
from sicl_jax.inference import Model
from sicl_jax.retrieval import people
from sicl_jax.retrieval.searching import steered
from sicl_jax.serve.batching import Batcher
from sicl_jax.serve.gallery import Gallery, Snapshot
from sicl_jax.serve.marks import Marks
from sicl_jax.serve.problems import ApiError
from sicl_jax.serve.thumbnails import Thumbnails
from tfds_builders.person_folder.table import MODALITIES
from tfds_builders.reid import images as stored_images

MOST_GROUPED = 200_000
"""Images up to which groups are computed on request."""

_UPLOADS_KEPT = 1000
_DECODED_AT_A_TIME = 4
_LABEL = re.compile(r"\w[\w .:-]{0,99}")  # What `prepare person_folder` takes for a label.


@dataclasses.dataclass(frozen=True, eq=False)
class _Upload:
    feature: np.ndarray
    digest: str


class Api:
    """An index, its model and its marks, to be asked by many threads.

    Args:
        gallery: The index.
        model: What made it; embeds uploads.
        marks: Who is who.
        thumbnails: Of the index's images.
    """

    def __init__(self, gallery: Gallery, model: Model, marks: Marks, thumbnails: Thumbnails):
        self._gallery = gallery
        self._model = model
        self._marks = marks
        self._thumbnails = thumbnails
        view = gallery.now().index.view
        self._reads = model.embedder(view.stream, view.flip).reads
        self._batcher = Batcher(
            lambda columns: model.embed(columns=columns, stream=view.stream, flip=view.flip)
        )
        self._decoding = threading.Semaphore(_DECODED_AT_A_TIME)
        self._grouping = threading.Lock()
        self._uploads: OrderedDict[str, _Upload] = OrderedDict()
        self._uploads_lock = threading.Lock()

    def close(self) -> None:
        """Ends the thread that embeds."""
        self._batcher.close()

    # ---- what there is -----------------------------------------------------------------------

    def health(self) -> dict[str, Any]:
        """Whether all is well, and with what."""
        now = self._gallery.now()
        about = now.index.model
        return {
            "status": "ok" if self._gallery.fault is None else self._gallery.fault,
            "images": len(now.paths),
            "exact": now.index.is_exact,
            "model": about["model"],
            "step": about["step"],
            "stream": now.index.view.stream,
            "batches": self._batcher.batches[-10:],
            "version": sicl_jax.__version__,
        }

    def facets(self) -> dict[str, Any]:
        """What can be filtered by."""
        now = self._gallery.now()
        facts = now.index.facts
        return {
            "images": len(now.paths),
            "cameras": [name for name in facts.cameras if name],
            "folders": sorted(now.folders),
            "modalities": [name for name in facts.modalities if name],
            "since": float(facts.times.min()) if len(now.paths) else None,
            "until": float(facts.times.max()) if len(now.paths) else None,
            "needs_modality": "modality" in self._reads,
        }

    def images(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Images of the index in its order, page by page."""
        now = self._gallery.now()
        where = now.where(asked.get("where", {}))
        rows = np.flatnonzero(now.index.facts.mask(where))
        first = asked.get("offset", 0)
        shown = rows[first : first + asked.get("top", 60)]
        return {"total": len(rows), "images": [self._image(now, now.paths[r]) for r in shown]}

    def thumbnail(self, name: str, size: str) -> bytes:
        """A picture of an image, as JPEG."""
        now = self._gallery.now()
        return self._thumbnails.get(name, now.index.entries[now.row(name)], size)

    def paths(self, names: Sequence[str]) -> list[str]:
        """Images' paths, for the audit log."""
        now = self._gallery.now()
        return [now.path(name) for name in names]

    # ---- search ------------------------------------------------------------------------------

    def embed(self, data: bytes, modality: str | None = None) -> dict[str, Any]:
        """The feature of a picture, and an id that searches know it by."""
        upload = self._embedded(data, modality)
        name = self._keep(upload)
        return {"upload": name, "sha256": upload.digest, "feature": upload.feature.tolist()}

    def search_picture(
        self, data: bytes, modality: str | None, asked: dict[str, Any]
    ) -> dict[str, Any]:
        """Searches with a picture."""
        upload = self._embedded(data, modality)
        found = self.search(asked | {"uploads": [self._keep(upload)]})
        return {**found, "sha256": upload.digest}

    def search(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The images most like some images, or a person, and unlike others."""
        started = time.perf_counter()
        now = self._gallery.now()
        same = [now.path(name) for name in asked.get("same", ())]
        not_same = [now.path(name) for name in asked.get("not_same", ())]
        if asked.get("person") is not None:
            person = self._marks.get(asked["person"])
            same += [path for path in person.same if path in now.index.rows]
            not_same += [path for path in person.not_same if path in now.index.rows]
        same, not_same = list(dict.fromkeys(same)), list(dict.fromkeys(not_same))
        uploads = [self._upload(name).feature for name in asked.get("uploads", ())]
        pulling = np.stack([*now.index.features_of(same), *uploads]) if same or uploads else None
        if pulling is None:
            raise ApiError(400, "name an image, an upload or a person with images to search with")
        query = steered(pulling, now.index.features_of(not_same))
        hits = now.index.find(
            query,
            asked.get("top", 60),
            where=now.where(asked.get("where", {})),
            without=[{*same, *not_same}],
        )[0]
        return {
            "exact": now.index.is_exact,
            "milliseconds": round(1000 * (time.perf_counter() - started), 1),
            "results": [
                {**self._image(now, hit.path), "similarity": round(hit.similarity, 4)}
                for hit in hits
            ],
        }

    def _embedded(self, data: bytes, modality: str | None) -> _Upload:
        for name in self._reads:
            if name == "mask":
                raise ApiError(400, "this model's stream needs masks; search with indexed images")
        if "modality" in self._reads and modality not in ("visible", "infrared"):
            raise ApiError(400, "modality: say visible or infrared; this model's stream reads it")
        with self._decoding:
            try:
                form = self._model.method.forms["image"]
                image = form.fit(stored_images.open_image(data))
            except stored_images.BadFileError as error:
                raise ApiError(400, f"the picture {error}") from error
        row = {"image": image}
        if "face" in self._reads:
            row["face"] = None
        if "modality" in self._reads:
            row["modality"] = MODALITIES[modality]
        feature = self._batcher({name: row[name] for name in row if name in self._reads})
        return _Upload(feature, hashlib.sha256(data).hexdigest())

    def _keep(self, upload: _Upload) -> str:
        name = f"u{upload.digest[:31]}"
        with self._uploads_lock:
            self._uploads[name] = upload
            self._uploads.move_to_end(name)
            while len(self._uploads) > _UPLOADS_KEPT:
                self._uploads.popitem(last=False)
        return name

    def _upload(self, name: str) -> _Upload:
        with self._uploads_lock:
            if name not in self._uploads:
                raise ApiError(404, "this upload is no longer kept; send the picture again")
            return self._uploads[name]

    def _image(self, now: Snapshot, path: str) -> dict[str, Any]:
        return {**now.shown(path), "person": self._marks.owner(path)}

    # ---- people ------------------------------------------------------------------------------

    def people(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Persons, the unchecked ones of little trust first, each with a few images."""
        now = self._gallery.now()
        everybody = self._marks.all()
        order = sorted(
            everybody,
            key=lambda n: (everybody[n].checked, everybody[n].trust or 0, -len(everybody[n].same)),
        )
        first = asked.get("offset", 0)
        chosen = order[first : first + asked.get("top", 60)]
        return {"total": len(order), "people": [self._person(now, n, most=12) for n in chosen]}

    def person(self, number: int, most: int | None = None) -> dict[str, Any]:
        """One person with all images."""
        return self._person(self._gallery.now(), number, most)

    def _person(self, now: Snapshot, number: int, most: int | None) -> dict[str, Any]:
        person = self._marks.get(number)
        same = [path for path in person.same if path in now.index.rows]
        not_same = [path for path in person.not_same if path in now.index.rows]
        return {
            "id": number,
            "name": person.name,
            "checked": person.checked,
            "trust": person.trust,
            "like": person.like if person.like in self._marks.all() else None,
            "count": len(same),
            "gone": len(person.same) + len(person.not_same) - len(same) - len(not_same),
            "images": [self._image(now, path) for path in same[:most]],
            "not_same": [self._image(now, path) for path in not_same[:most]],
        }

    def mark(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Marks images as a person's or not; without a person a new one is made."""
        now = self._gallery.now()
        shown = [now.path(name) for name in asked.get("shown", ())]
        images = [now.path(name) for name in asked["images"]]
        number = self._marks.mark(asked.get("person"), shown, images, asked["mark"])
        return self.person(number)

    def merge(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Makes one person of several."""
        if len(set(asked["people"])) < 2:
            raise ApiError(400, "merge: choose two people or more")
        return self.person(self._marks.merge(asked["people"]))

    def split(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Makes a new person of some of a person's images."""
        now = self._gallery.now()
        images = {now.path(name) for name in asked["images"]}
        return self.person(self._marks.split(asked["person"], images))

    def edit(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Names a person, or says whether somebody has checked them."""
        number = self._marks.edit(
            asked["person"], name=asked.get("name"), checked=asked.get("checked")
        )
        return self.person(number)

    def forget(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Forgets a person; the images stay."""
        return {"forgotten": self._marks.remove(asked["person"])}

    def group(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Computes groups; people whom somebody has checked stay as they are."""
        now = self._gallery.now()
        if len(now.paths) > MOST_GROUPED:
            raise ApiError(400, f"groups are computed of {MOST_GROUPED} images at most")
        settings = people.Settings(k1=asked.get("k1", 20), eps=asked.get("eps", 0.5))
        if not self._grouping.acquire(blocking=False):
            raise ApiError(409, "groups are being computed already; wait for them")
        try:
            features = now.index.features()
            self._marks.regroup(lambda known: people.group(now.paths, features, settings, known))
        except UserError as error:
            raise ApiError(400, str(error)) from error
        finally:
            self._grouping.release()
        return self.people({})

    # ---- export ------------------------------------------------------------------------------

    def table(self, *, everybody: bool) -> bytes:
        """People as a CSV that `sicl-jax cluster --add` reads."""
        return self._marks.table(everybody=everybody)

    def labelled(self, *, everybody: bool) -> tuple[io.IOBase, int]:
        """People as a ZIP that `sicl-jax prepare person_folder` reads once it is unpacked.

        Returns:
            The file, and how many images could not be put into it because they are gone.
        """
        now = self._gallery.now()
        chosen = self._marks.chosen(everybody=everybody)
        if not chosen:
            raise ApiError(400, "nobody has been marked yet; mark somebody, or export all groups")
        lines, left_out = ["file,identity,camera,modality"], 0
        file = tempfile.SpooledTemporaryFile(max_size=64 << 20)  # noqa: SIM115 - the caller's.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for number, person in chosen.items():
                for path, name in _named(f"person_{number:04}", person.same):
                    facts = now.shown(path)
                    try:
                        data = stored_images.read(path) if facts else None
                    except stored_images.BadFileError:
                        data = None
                    if data is None:
                        left_out += 1
                        continue
                    archive.writestr(name, data)
                    camera = facts["camera"] if _LABEL.fullmatch(facts["camera"]) else ""
                    lines.append(f"{name},{name.partition('/')[0]},{camera},{facts['modality']}")
            archive.writestr("metadata.csv", "\n".join(lines) + "\n")
        file.seek(0)
        return file, left_out


def _named(folder: str, paths: Sequence[str]):
    """Paths with what each is called in a folder, plain and each name once."""
    taken: set[str] = set()
    for path in paths:
        stem, dot, ending = path.rpartition("/")[2].rpartition(".")
        stem, ending = (re.sub(r"[^\w.-]", "_", part) for part in (stem.lstrip("."), ending))
        name, number = f"{stem}{dot}{ending}", 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}{dot}{ending}"
        taken.add(name.lower())
        yield path, f"{folder}/{name}"
