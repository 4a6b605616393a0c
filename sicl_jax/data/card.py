"""A data set's card: how many images, people, cameras and outfits each split has."""

import json

from sicl_jax.data.store import METADATA, Store, damaged, record_digest
from tfds_builders.reid import digest
from tfds_builders.reid.features import LABELS, PICTURES
from tfds_builders.reid.plan import card_line

_COLUMNS = ("images", "identities", "cameras", "outfits", "masks")
_LATER_COLUMNS = ("faces", "restored_faces", "infrared")
"""Shown where a split has any; data sets of earlier revisions note none down."""


def summarise(store: Store) -> dict:
    """Reads all examples; returns `fingerprint`, `split_digests` and `card`.

    Builders of raw folders note these down themselves; this is for all others.
    """
    digests, card = {}, {}
    for split in store.examples:
        hashes, examples = [], []
        for batch in store.records(split):
            for record in batch:
                hashes.append(record_digest(record))
                labels = {label: record[label] for label in LABELS}
                examples.append((labels, [p for p in PICTURES if record[p] is not None]))
        digests[split] = digest.split_digest(hashes)
        card[split] = card_line(examples)
    return {"fingerprint": digest.fingerprint(digests), "split_digests": digests, "card": card}


def json_text(store: Store) -> str:
    """Returns the card for other programs."""
    metadata = _noted(store)
    about = {"name": store.name, "config": store.config_name, "directory": str(store.directory)}
    keys = ("fingerprint", "card", "published", "left_out")
    return json.dumps(about | {key: metadata[key] for key in keys if key in metadata}, indent=2)


def text(store: Store) -> str:
    """Returns the card as a table in plain text, published counts beside those that differ."""
    metadata = _noted(store)
    published = store.metadata.get("published", {})
    card = metadata["card"]
    columns = [
        *_COLUMNS,
        *(c for c in _LATER_COLUMNS if any(line.get(c) for line in card.values())),
    ]
    rows = [("split", *(column.replace("_", " ") for column in columns))]
    for split, counts in card.items():
        expected = published.get(split, {})
        rows.append((split, *(_cell(counts.get(c) or 0, expected.get(c)) for c in columns)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_aligned(row, widths)) for row in rows]
    lines.insert(
        0, f"{store.full_name} in {store.directory}, fingerprint {metadata['fingerprint'][:12]}"
    )
    if any("published" in cell for row in rows for cell in row):
        lines.append("This copy differs from what was published; is it complete?")
    left_out = store.metadata.get("left_out", 0)
    if left_out:
        were = "file was" if left_out == 1 else "files were"
        lines.append(f"{left_out} {were} left out, see {store.directory / 'problems.csv'}")
    return "\n".join(line.rstrip() for line in lines)


def _noted(store: Store) -> dict:
    if "card" not in store.metadata:
        return store.metadata | summarise(store)
    for split, counts in store.metadata["card"].items():
        if missing := {column for column in _COLUMNS if counts.get(column) is None}:
            raise damaged(store.directory / METADATA, f"{split} without {min(missing)}")
    return store.metadata


def _cell(count: int, published: int | None) -> str:
    return f"{count:,}" if published in (None, count) else f"{count:,} (published {published:,})"


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    first, *numbers = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in numbers)]
