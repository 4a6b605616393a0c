"""From encoded files to the pixels that a model sees."""

import dataclasses
import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sicl_jax.data.resample import FILTERS, resized
from sicl_jax.errors import UsageError, UserError
from tfds_builders.reid import images, parts

MASK_MODES = ("silhouette", "parsing", "parts", "keep")
MODES = ("rgb", *MASK_MODES)

MAX_PARTS = 64
"""Human parsers tell some twenty parts apart; larger values are grey levels."""


@dataclasses.dataclass(frozen=True)
class Form:
    """How pictures are turned into arrays of one shape.

    Attributes:
        size: Height and width in pixels.
        resize: PIL's filter, a key of `FILTERS`; `parts` is always resized to the nearest pixel.
        mode: What becomes of the colours before the picture is resized:
            `rgb`: three channels.
            `silhouette`: 255 wherever a mask is not background (label, grey value or colour 0).
            `parsing`: the luminance of a mask's palette colours; a grey mask is taken as it is.
            `parts`: a mask's labels.
            `keep`: 255 where a mask is not clothes, background included. Part labels are looked up
                in `tfds_builders.reid.parts`; of other masks it is the red channel.
    """

    size: tuple[int, int]
    resize: str = "bicubic"
    mode: str = "rgb"

    def __post_init__(self):
        """Checks the fields.

        Raises:
            UsageError: One has no meaning.
        """
        object.__setattr__(self, "size", tuple(self.size))
        if len(self.size) != 2 or min(self.size) < 1:
            raise UsageError(f"image_size {self.size} must be height and width, at least 1 pixel")
        for field, value, known in (
            ("resize", self.resize, tuple(FILTERS)),
            ("mode", self.mode, MODES),
        ):
            if value not in known:
                raise UsageError(f"{field} {value!r} is unknown; use one of {', '.join(known)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one picture: (H, W, 3) in mode `rgb`, else (H, W)."""
        return (*self.size, 3) if self.mode == "rgb" else self.size

    def __str__(self) -> str:
        height, width = self.size
        return f"{height}x{width}.{self.resize}.{self.mode}"

    def decode(self, data: bytes) -> UInt8[np.ndarray, "..."]:
        """Decodes a file and fits it."""
        if self.mode == "rgb":
            return self.fit(images.open_image(data))
        with Image.open(io.BytesIO(data)) as picture:
            return self.fit(picture)

    def fit(self, picture: Image.Image | UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "..."]:
        """Returns the picture, in mode `rgb` perhaps an array, as an array of this form's shape.

        Masks change their values at their own size, so resizing never mixes two labels into a
        third.

        Raises:
            UserError: The mode is `parts` and the mask holds no labels, or `keep` and it holds
                labels of unknown parts.
        """
        if self.mode == "parts":
            labels = Image.fromarray(part_labels(picture))
            return np.asarray(labels.resize(self.size[::-1], Image.Resampling.NEAREST))
        if self.mode != "rgb":
            picture = grey_mask(picture, self.mode)
        elif isinstance(picture, Image.Image):
            picture = picture.convert("RGB")
        return resized(np.asarray(picture), self.size, self.resize)


def grey_mask(mask: Image.Image, mode: str) -> Image.Image:
    """Returns the grey picture that a mask stands for in a mode other than `parts`.

    Raises:
        UserError: The mode is `keep` and the labels are of unknown parts.
    """
    if mode == "parsing":
        return mask.convert("L")
    if mode == "keep":
        return _kept(mask)
    values = np.asarray(mask)
    person = values.any(axis=-1) if values.ndim == 3 else values != 0
    return Image.fromarray(np.where(person, np.uint8(255), np.uint8(0)))


def _kept(mask: Image.Image) -> Image.Image:
    kind = parts.kind_of(mask)
    if kind is not None and mask.mode in ("L", "P"):
        return Image.fromarray(parts.not_clothes(kind)[np.asarray(mask)])
    if mask.mode == "P" or (mask.mode == "L" and 0 < np.asarray(mask).max() < MAX_PARTS):
        raise UserError(
            "the mask does not say which parts its labels are; make it with `sicl-jax masks`"
        )
    return mask.convert("RGB").getchannel(0)


def part_labels(mask: Image.Image) -> UInt8[np.ndarray, "H W"]:
    """Returns the labels of a palette or grey mask, 0 for background.

    Raises:
        UserError: It is a silhouette, or holds colours or grey levels.
    """
    labels = np.asarray(mask)
    if mask.mode not in ("L", "P") or labels.max(initial=0) >= MAX_PARTS:
        raise UserError("the mask holds no part labels; make it with `sicl-jax masks`")
    return labels
