"""Deciding what is written: all files decoded once, all problems told at once."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence

from tfds_builders.reid import digest, problems, workers
from tfds_builders.reid.decoding import Checked, File, check_all
from tfds_builders.reid.features import INFRARED, LABELS, UNKNOWN
from tfds_builders.reid.layout import TRAIN, Found
from tfds_builders.reid.listing import SHOWN_AS, Listing
from tfds_builders.reid.problems import Problem, ProblemsFoundError, RawDataError

_CHUNK = 128


@dataclasses.dataclass(frozen=True)
class Example:
    """An example to write.

    Attributes:
        name: Path below the raw folder.
        labels: All labels by column.
        files: Its files by column, the image among them.
        lossy_masks: As for `images.check_mask`.
    """

    name: str
    labels: dict[str, int]
    files: dict[str, File]
    lossy_masks: bool = False

    @property
    def digest(self) -> bytes:
        """Its contribution to the fingerprint."""
        digests = {picture: file.digest for picture, file in self.files.items()}
        return digest.example_digest(digests, self.labels, self.name)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to write.

    Attributes:
        splits: The examples of each split, in order.
        metadata: JSON values to note beside them: `fingerprint`, `split_digests`, `card`,
            `published`, `left_out`, `listing`, and what `Source.notes` gives.
        problems: Why something is left out.
        warnings: What is odd but no error.
    """

    splits: dict[str, list[Example]]
    metadata: dict
    problems: list[Problem]
    warnings: list[str]


def check(
    listing: Listing,
    *,
    skip_bad: bool = False,
    cores: int | None = None,
    advance: Callable[[int], None] = lambda images: None,  # noqa: ARG005
) -> Plan:
    """Decodes every file and decides what is written.

    Args:
        listing: What `listing.find` found.
        skip_bad: Leave out what is bad, instead of stopping.
        cores: Number of processes; all usable cores if None.
        advance: Called with the number of images checked since its last call.

    Raises:
        ProblemsFoundError: There are problems, and `skip_bad` is not set.
        RawDataError: Nothing is left of a split.
    """
    source = listing.source
    noted, warnings = list(listing.problems), list(listing.warnings)
    good = []
    for (found, paths), checked in zip(
        listing.images, _decode_all(listing, cores, advance), strict=True
    ):
        if "image" in checked.problems:
            noted.append(Problem(found.entry.path, problems.UNREADABLE, checked.problems["image"]))
            continue
        needs_mask = found.split == TRAIN and "mask" in listing.beside and source.needs_masks
        for column, detail in checked.problems.items():
            left_out = "image" if column == "mask" and needs_mask else column.replace("_", " ")
            path = f"{SHOWN_AS[column]}/{paths[column].path}"
            kind = problems.BAD_MASK if column == "mask" else problems.BAD_FACE
            noted.append(Problem(path, kind, detail, left_out))
        if "mask" in checked.files or not needs_mask:
            good.append((found, checked))
    empty = sum(checked.empty for _, checked in good)
    if empty:
        shows = "mask shows" if empty == 1 else "masks show"
        warnings.append(f"{empty} {shows} no person")
    good = _with_separate_identities(good, listing, noted, warnings)
    if noted and not skip_bad:
        found, files = ("problem", "this file") if len(noted) == 1 else ("problems", "these files")
        raise ProblemsFoundError(
            f"{listing.raw}: {len(noted)} {found} ({problems.summary(noted)}); mend what is "
            f"listed, or leave {files} out with --skip_bad",
            sorted(noted),
        )
    splits = _examples(good, source.lossy_masks)
    for split in dict.fromkeys(found.split for found, _ in listing.images):
        if split not in splits:
            raise RawDataError(f"{listing.raw}: nothing good is left of split {split}")
    return Plan(splits, _metadata(listing, splits, noted), sorted(noted), warnings)


def _decode_all(listing: Listing, cores: int | None, advance: Callable[[int], None]):
    paths = [
        {"image": f"{listing.raw}/{image.entry.path}"}
        | {column: f"{listing.beside[column]}/{entry.path}" for column, entry in files.items()}
        for image, files in listing.images
    ]
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    check_chunk = functools.partial(check_all, lossy_masks=listing.source.lossy_masks)
    with workers.parallel_map(len(paths), cores) as run:
        for results in run(check_chunk, chunks):
            advance(len(results))
            yield from results


def _with_separate_identities(
    good: list[tuple[Found, Checked]],
    listing: Listing,
    noted: list[Problem],
    warnings: list[str],
) -> list[tuple[Found, Checked]]:
    """Sees to it that no person is in both training and test; may add to problems, warnings."""
    trained = {found.identity for found, _ in good if found.split == TRAIN} - {UNKNOWN}
    tested = {found.identity for found, _ in good if _is_test(found.split)} - {UNKNOWN}
    shared = trained & tested
    if not shared:
        return good
    if shared == tested and listing.source.numbering_may_restart:
        shift = max(trained) + 1
        warnings.append(
            f"all {len(tested)} test identities bear numbers of training identities too; taken "
            f"for other persons, so {shift} was added to them"
        )
        return [
            (dataclasses.replace(found, identity=found.identity + shift), checked)
            if _is_test(found.split)
            else (found, checked)
            for found, checked in good
        ]
    kept = []
    for found, checked in good:
        if found.split == TRAIN and found.identity in shared:
            detail = f"identity {found.identity} is in the test splits too"
            noted.append(Problem(found.entry.path, problems.SHARED, detail))
        else:
            kept.append((found, checked))
    return kept


def _is_test(split: str) -> bool:
    return "query" in split or "gallery" in split


def _examples(good: list[tuple[Found, Checked]], lossy_masks: bool) -> dict[str, list[Example]]:
    outfits = sorted({(f.identity, f.clothes) for f, _ in good if f.clothes != UNKNOWN})
    number = {outfit: index for index, outfit in enumerate(outfits)}
    splits = collections.defaultdict(list)
    for found, checked in good:
        labels = {label: getattr(found, label) for label in LABELS}
        labels["clothes"] = number.get((found.identity, found.clothes), UNKNOWN)
        splits[found.split].append(Example(found.entry.path, labels, checked.files, lossy_masks))
    return dict(splits)


def _metadata(listing: Listing, splits: dict[str, list[Example]], noted: list[Problem]) -> dict:
    digests = {
        split: digest.split_digest([example.digest for example in examples])
        for split, examples in splits.items()
    }
    return {
        "fingerprint": digest.fingerprint(digests),
        "split_digests": digests,
        "card": {
            split: card_line([(example.labels, example.files) for example in examples])
            for split, examples in splits.items()
        },
        "published": {
            split: {k: v for k, v in dataclasses.asdict(size).items() if v is not None}
            for split, size in listing.source.published.items()
        },
        "left_out": len(noted),
        "listing": listing.digest,
    } | listing.source.notes(
        listing.raw,
        {split: [example.name for example in examples] for split, examples in splits.items()},
    )


def card_line(examples: Sequence[tuple[Mapping[str, int], Collection[str]]]) -> dict[str, int]:
    """Returns a split's counts.

    Args:
        examples: The labels of each example, and the names of the pictures that it has.

    Returns:
        `images`, `identities`, `cameras` and `outfits` (of known labels only), `masks`, and where
        there are any `faces`, `restored_faces` and `infrared` images.
    """

    def known(label: str) -> int:
        return len({labels[label] for labels, _ in examples} - {UNKNOWN})

    def having(picture: str) -> int:
        return sum(picture in pictures for _, pictures in examples)

    line = {
        "images": len(examples),
        "identities": known("identity"),
        "cameras": known("camera"),
        "outfits": known("clothes"),
        "masks": having("mask"),
    }
    later = {
        "faces": having("face"),
        "restored_faces": having("face_restored"),
        "infrared": sum(labels["modality"] == INFRARED for labels, _ in examples),
    }
    return line | {name: count for name, count in later.items() if count}
