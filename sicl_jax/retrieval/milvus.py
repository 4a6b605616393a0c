"""An index in Milvus, for more images than one machine's memory holds.

`milvus://HOST[:PORT]/COLLECTION` is a server or a cluster, `milvus:///FOLDER/FILE.db/COLLECTION` a
file of Milvus Lite. A token comes from the variable MILVUS_TOKEN. Each image is a row: the feature,
the file with its size and time of change and those of the files beside it, camera, folder and those
above it, modality, time, and what made the feature (`made_by`), by which features of another model
are refused.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Self

import numpy as np
from jaxtyping import Float32

from sicl_jax.errors import UsageError, UserError, one_line
from sicl_jax.retrieval.facts import Where, camera_reader, facts_of
from sicl_jax.retrieval.folder import View
from sicl_jax.retrieval.index import Entry, Hit, Searchable

SCHEME = "milvus://"
_ADDRESS = re.compile(r"milvus://(?:([\w.-]+)(?::(\d{1,5}))?|(/.+\.db))/([A-Za-z_]\w{0,199})")
_PORT = 19530
_TEXT = 4096
_FOLDERS = 128
_ROWS_A_TIME = 1000
_MOST_FOUND = 16_384  # Milvus' own limit of results of one search.


class MilvusIndex(Searchable):
    """An index as `index.GalleryIndex` is one, in a collection of Milvus.

    Attributes:
        model: What made the features (`Model.about`).
        view: How images were looked at.
        camera: Where paths say the camera (`facts.camera_reader`).
        is_exact: False: the server chooses its index.
    """

    is_exact = False

    def __init__(self, address: str, model: dict, view: View, dimensions: int, camera=None):
        """Makes a collection, if there is none.

        Raises:
            UserError: Milvus cannot be reached.
        """
        self.address = address
        self.model, self.view, self.camera = model, view, camera
        self._client, self._name = _connect(address)
        with _told(address):
            if not self._client.has_collection(self._name):
                try:
                    self._make(dimensions)
                except Exception:  # Another process may have made it just before.
                    if not self._client.has_collection(self._name):
                        raise

    @classmethod
    def open(cls, address: str) -> Self | None:
        """The index of an address; None if it has no images yet.

        Raises:
            UserError: Milvus cannot be reached, or the collection is not ours.
        """
        client, name = _connect(address)
        with _told(address):
            if not client.has_collection(name):
                return None
            rows = client.query(name, filter='id != ""', output_fields=["*"], limit=1)
            if not rows:
                client.drop_collection(name)
                return None
            try:
                made_by = json.loads(rows[0]["made_by"])
                index = cls.__new__(cls)
                index.address, index._client, index._name = address, client, name
                index.model, index.camera = made_by["model"], made_by["camera"]
                index.view = View(**made_by["view"])
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"--index {address}: no index of ours ({one_line(error)}); name another "
                    "collection"
                ) from error
        return index

    def _make(self, dimensions: int) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=32)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimensions)
        for name in ("path", "beside", "camera", "folder", "modality", "made_by"):
            schema.add_field(name, DataType.VARCHAR, max_length=_TEXT)
        schema.add_field(
            "above", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=_FOLDERS,
            max_length=_TEXT,
        )  # fmt: skip
        schema.add_field("time", DataType.DOUBLE)
        for name in ("size", "changed"):
            schema.add_field(name, DataType.INT64)
        how = self._client.prepare_index_params()
        how.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
        self._client.create_collection(
            self._name, schema=schema, index_params=how, consistency_level="Strong"
        )

    def __len__(self) -> int:
        with _told(self.address):
            found = self._client.query(self._name, filter="", output_fields=["count(*)"])
        return int(found[0]["count(*)"])

    # ---- change ------------------------------------------------------------------------------

    def add(self, entries: Sequence[Entry], features: Float32[np.ndarray, "N D"]) -> None:
        """Adds files; those of a path that is there already take its place."""
        camera = camera_reader(self.camera)
        about = {"model": self.model, "view": vars(self.view), "camera": self.camera}
        made_by = json.dumps(about)
        for first in range(0, len(entries), _ROWS_A_TIME):
            rows = []
            part = slice(first, first + _ROWS_A_TIME)
            for entry, feature in zip(entries[part], features[part], strict=True):
                facts = facts_of(entry.path, entry.changed, camera)
                parts = facts.folder.strip("/").split("/")
                above = ["/" + "/".join(parts[: n + 1]) for n in range(len(parts))]
                rows.append(
                    {
                        "id": _id(entry.path),
                        "vector": feature.tolist(),
                        "path": entry.path,
                        "beside": entry.beside,
                        "camera": facts.camera,
                        "folder": facts.folder,
                        "above": above[-_FOLDERS:],
                        "modality": facts.modality,
                        "time": facts.time,
                        "size": entry.size,
                        "changed": entry.changed,
                        "made_by": made_by,
                    }
                )
            with _told(self.address):
                self._client.upsert(self._name, rows)

    def remove(self, paths: Collection[str]) -> int:
        """Removes files, as far as they are there; returns how many were."""
        before, names = len(self), [_id(path) for path in paths]
        with _told(self.address):
            for first in range(0, len(names), _ROWS_A_TIME):
                self._client.delete(self._name, ids=names[first : first + _ROWS_A_TIME])
        return before - len(self)

    def save(self, _: object = None) -> None:
        """Asks for what was added to be written to disk; it can be found before that."""
        with _told(self.address):
            self._client.flush(self._name)

    # ---- reading -----------------------------------------------------------------------------

    @property
    def entries(self) -> list[Entry]:
        """All files, in the order of their ids."""
        fields = [field.name for field in dataclasses.fields(Entry)]
        return [Entry(*(row[name] for name in fields)) for row in self._rows(*fields)]

    def features(self) -> Float32[np.ndarray, "N D"]:
        """The features of all files, in the order of `entries`."""
        return np.asarray([row["vector"] for row in self._rows("vector")], np.float32)

    def _rows(self, *fields: str) -> list[dict[str, Any]]:
        def every() -> Iterator[dict[str, Any]]:
            read = self._client.query_iterator(
                self._name, batch_size=_ROWS_A_TIME, output_fields=["id", *fields]
            )
            while rows := read.next():
                yield from rows
            read.close()

        with _told(self.address):
            return sorted(every(), key=lambda row: row["id"])

    def nearest(
        self, features: Float32[np.ndarray, "Q D"], count: int, where: Where
    ) -> list[list[Hit]]:
        """As `Searchable` says; Milvus itself filters."""
        with _told(self.address):
            found = self._client.search(
                self._name, data=np.asarray(features, np.float32).tolist(),
                limit=min(_MOST_FOUND, count), filter=expression(where), output_fields=["path"],
                anns_field="vector",
            )  # fmt: skip
        return [
            [Hit(hit["entity"]["path"], float(hit["distance"])) for hit in hits] for hits in found
        ]


def expression(where: Where) -> str:
    """Filters in Milvus' language; texts are quoted, whatever they hold."""
    parts = []
    for field, values in (("camera", where.cameras), ("modality", where.modalities)):
        if values:
            parts.append(f"{field} in {json.dumps(sorted(values), ensure_ascii=False)}")
    if where.folders:
        folders = json.dumps(sorted(where.folders), ensure_ascii=False)
        parts.append(f"array_contains_any(above, {folders})")
    if where.since is not None:
        parts.append(f"time >= {float(where.since)!r}")
    if where.until is not None:
        parts.append(f"time < {float(where.until)!r}")
    return " and ".join(parts)


def _id(path: str) -> str:
    data = path.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _connect(address: str):
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UsageError(
            f"--index {address}: give milvus://HOST:PORT/COLLECTION, or "
            "milvus:///FOLDER/FILE.db/COLLECTION for Milvus Lite"
        )
    try:
        from pymilvus import MilvusClient
    except ImportError as error:
        raise UserError(
            f"--index {address}: needs the package {error.name}; install sicl-jax[milvus]"
        ) from error
    host, port, file, name = match.groups()
    place = file or f"http://{host}:{port or _PORT}"
    with _told(address):
        return MilvusClient(place, token=os.environ.get("MILVUS_TOKEN", "")), name


class _told:  # noqa: N801 - used as a function.
    """Makes one line of what Milvus raises."""

    def __init__(self, address: str):
        self._address = address

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None or isinstance(error, UserError):
            return
        from pymilvus.exceptions import MilvusException

        if isinstance(error, MilvusException | OSError | ValueError):
            raise UserError(f"--index {self._address}: {one_line(error)}") from error
