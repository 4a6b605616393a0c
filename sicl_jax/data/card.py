"""A data set's card: how many images, people, cameras and outfits each split has."""

import json

from sicl_jax.data.store import METADATA, Store, damaged, record_digest
from tfds_builders.reid import digest
from tfds_builders.reid.features import LABELS, UNKNOWN

_COLUMNS = ("images", "identities", "cameras", "outfits", "masks")
_COLUMN_OF_LABEL = {"identity": "identities", "camera": "cameras", "clothes": "outfits"}


def summarise(store: Store) -> dict:
    """Reads all examples; gives `fingerprint`, `split_digests` and `card`.

    Builders of raw folders note these down themselves; this is for all others.
    """
    digests, card = {}, {}
    for split, count in store.examples.items():
        hashes, masks = [], 0
        values = {label: set() for label in LABELS}
        for batch in store.records(split):
            for record in batch:
                hashes.append(record_digest(record))
                masks += record["mask"] is not None
                for label in LABELS:
                    values[label].add(record[label])
        digests[split] = digest.split_digest(hashes)
        known = {
            column: len(values[label] - {UNKNOWN}) for label, column in _COLUMN_OF_LABEL.items()
        }
        card[split] = {"images": count, **known, "masks": masks}
    return {"fingerprint": digest.fingerprint(digests), "split_digests": digests, "card": card}


def json_text(store: Store) -> str:
    """The card for other programs."""
    metadata = _noted(store)
    about = {"name": store.name, "config": store.config_name, "directory": str(store.directory)}
    keys = ("fingerprint", "card", "published", "left_out")
    return json.dumps(about | {key: metadata[key] for key in keys if key in metadata}, indent=2)


def text(store: Store) -> str:
    """The card as a table in plain text, published counts beside those that differ."""
    metadata = _noted(store)
    published = store.metadata.get("published", {})
    rows = [("split", *_COLUMNS)]
    for split, counts in metadata["card"].items():
        cells = [_cell(counts[column], published.get(split, {}).get(column)) for column in _COLUMNS]
        rows.append((split, *cells))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_aligned(row, widths)) for row in rows]
    name = f"{store.name}/{store.config_name}" if store.config_name else store.name
    lines.insert(0, f"{name} in {store.directory}, fingerprint {metadata['fingerprint'][:12]}")
    if any("published" in cell for row in rows for cell in row):
        lines.append("This copy differs from what was published; is it complete?")
    left_out = store.metadata.get("left_out", 0)
    if left_out:
        lines.append(f"{left_out} files were left out, see {store.directory / 'problems.csv'}")
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
