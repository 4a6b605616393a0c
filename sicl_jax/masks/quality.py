"""How good are the masks of a folder? Signs that need no ground truth.

Three signs of a failed mask: it is empty; it touches all four borders, as a mask of the background
does; it falls into several large pieces. In a tight crop a good mask may touch all borders too.
"""

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from sicl_jax.data.files import usable_cores
from sicl_jax.errors import UserError

EMPTY_LIMIT = 0.05  # Share of empty masks above which training warns.
LARGE_PIECE = 0.1  # Share of the person's pixels from which a connected piece is large.

_CHUNK = 256


@dataclasses.dataclass(frozen=True)
class MaskSigns:
    """What one mask shows.

    Attributes:
        name: Path below the root.
        fault: Why it cannot be read, or ''.
        coverage: Share of the picture that is person.
        touches_all_borders: Whether person lies on all four borders.
        large_pieces: Connected pieces (of 8 neighbours) with a tenth of the person's pixels or
            more.
        main_share: Share of the person's pixels that lie in the largest piece.
    """

    name: str
    fault: str = ""
    coverage: float = 0.0
    touches_all_borders: bool = False
    large_pieces: int = 0
    main_share: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is person."""
        return not self.fault and self.coverage == 0

    def complaints(self) -> list[str]:
        """Returns what is wrong, in words; empty if nothing is."""
        if self.fault:
            return ["unreadable"]
        if self.is_empty:
            return ["empty"]
        words = []
        if self.touches_all_borders:
            words.append("all borders")
        if self.large_pieces > 1:
            words.append(f"{self.large_pieces} pieces")
        return words

    def badness(self) -> float:
        """Sorts the worst first: unreadable, empty, all borders, pieces by what they leave out."""
        if self.fault:
            return 4.0
        if self.is_empty:
            return 3.0
        borders = 1 + self.coverage if self.touches_all_borders else 0.0
        return borders + (1 - self.main_share if self.large_pieces > 1 else 0.0)


@dataclasses.dataclass(frozen=True)
class QualityReport:
    """Signs counted over many masks.

    Attributes:
        total: Masks looked at.
        unreadable: Files that are no pictures.
        empty: Masks without a person.
        all_borders: Masks that touch all four borders.
        several_pieces: Masks of several large pieces.
        mean_coverage: Mean share of the picture that is person.
        worst: The worst masks, worst first; only such as show a sign.
    """

    total: int
    unreadable: int
    empty: int
    all_borders: int
    several_pieces: int
    mean_coverage: float
    worst: tuple[MaskSigns, ...]

    def summary(self) -> dict[str, float]:
        """Counts and shares, for a JSON file."""
        counts = {
            name: getattr(self, name)
            for name in ("unreadable", "empty", "all_borders", "several_pieces")
        }
        shares = {f"{name}_share": count / self.total for name, count in counts.items()}
        return {"total": self.total, **counts, **shares, "mean_coverage": self.mean_coverage}

    def lines(self) -> list[str]:
        """Returns the report for a person, and the warning if there is one."""
        kinds = (
            ("unreadable", self.unreadable),
            ("empty", self.empty),
            ("touch all borders", self.all_borders),
            ("several large pieces", self.several_pieces),
        )
        lines = [f"{self.total} masks, {self.mean_coverage:.1%} of the picture on average"]
        lines += [f"  {name}: {count} ({count / self.total:.1%})" for name, count in kinds]
        warning = empty_warning(self.empty, self.total)
        return [*lines, f"warning: {warning}"] if warning else lines


def empty_warning(empty: int, total: int, limit: float = EMPTY_LIMIT) -> str | None:
    """Returns the line to warn with when more than `limit` of the masks are empty, else None."""
    if empty <= limit * total:
        return None
    return (
        f"{empty} of {total} masks ({empty / total:.1%}) are empty, so their images train the "
        "silhouette stream with nothing; look at them with `sicl-jax masks --check`"
    )


def empty_masks_warning(
    masks: UInt8[np.ndarray, "n h w"], limit: float = EMPTY_LIMIT
) -> str | None:
    """Returns `empty_warning` of grey masks of a prepared data set, 0 where no person is.

    Args:
        masks: Read in pieces, so it may be memory-mapped.
        limit: Share of empty masks that is borne.
    """
    starts = range(0, len(masks), _CHUNK)
    filled = sum(int(masks[i : i + _CHUNK].any(axis=(1, 2)).sum()) for i in starts)
    return empty_warning(len(masks) - filled, len(masks), limit)


def check_folder(
    folder: str | os.PathLike[str], *, threads: int | None = None, num_worst: int = 24
) -> QualityReport:
    """Looks at all PNG files of a tree, hidden ones excepted.

    Raises:
        UserError: The folder does not exist or holds none.
    """
    folder = Path(folder)
    masks = [path for path in sorted(folder.rglob("*.png")) if not _is_hidden(path, folder)]
    if not masks:
        raise UserError(f"{folder}: holds no PNG files; give the folder of the masks")
    return check_masks(masks, root=folder, threads=threads, num_worst=num_worst)


def check_masks(
    masks: Sequence[Path], *, root: Path, threads: int | None = None, num_worst: int = 24
) -> QualityReport:
    """Looks at masks; their names in the report are relative to `root`."""
    with ThreadPoolExecutor(threads or default_threads()) as pool:
        signs = list(pool.map(lambda path: _read_signs(path, root), masks))
    readable = [sign.coverage for sign in signs if not sign.fault]
    bad = sorted((sign for sign in signs if sign.complaints()), key=lambda sign: -sign.badness())
    return QualityReport(
        total=len(signs),
        unreadable=sum(bool(sign.fault) for sign in signs),
        empty=sum(sign.is_empty for sign in signs),
        all_borders=sum(sign.touches_all_borders for sign in signs),
        several_pieces=sum(sign.large_pieces > 1 for sign in signs),
        mean_coverage=float(np.mean(readable)) if readable else 0.0,
        worst=tuple(bad[:num_worst]),
    )


def person_pixels(mask: Image.Image) -> Bool[np.ndarray, "h w"]:
    """Returns where a binary, grey, palette or colour mask is not background (0), opaque or not."""
    values = np.asarray(mask)
    if values.ndim == 2:
        return values != 0
    colours = sum(band not in "Aa" for band in mask.getbands())
    return values[..., :colours].any(axis=-1)


def mask_signs(person: Bool[np.ndarray, "h w"], name: str = "") -> MaskSigns:
    """Returns the signs of one mask."""
    edges = (person[0], person[-1], person[:, 0], person[:, -1])
    _, _, stats, _ = cv2.connectedComponentsWithStats(person.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]  # Component 0 is the background.
    total = int(areas.sum())
    return MaskSigns(
        name=name,
        coverage=total / person.size,
        touches_all_borders=all(bool(edge.any()) for edge in edges),
        large_pieces=int((areas >= LARGE_PIECE * total).sum()),
        main_share=float(areas.max() / total) if total else 0.0,
    )


def default_threads() -> int:
    """Returns one a usable core, two at least, so that reading and computing overlap."""
    return max(2, usable_cores())


def _read_signs(path: Path, root: Path) -> MaskSigns:
    name = path.relative_to(root).as_posix()
    try:
        with Image.open(path) as mask:
            return mask_signs(person_pixels(mask), name)
    except (OSError, ValueError, SyntaxError) as error:
        return MaskSigns(name, fault=str(error) or type(error).__name__)


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
