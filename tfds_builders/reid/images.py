"""Checking image and mask files, and mending what other readers would misread.

Files are stored as they are. Only what TensorFlow, OpenCV or PIL would decode differently is
changed, and then losslessly, to a PNG:

- an EXIF orientation becomes a rotation of the pixels;
- CMYK, palettes, transparency and 16 bits per channel become 8-bit RGB or grey;
- formats other than JPEG and PNG become PNG; of several frames or pages the first.
"""

import dataclasses
import io
import os
import warnings

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

from tfds_builders.reid.features import encode_png
from tfds_builders.reid.parts import noted_kind

MAX_PIXELS = 4096 * 4096
"""A crop of one person is far smaller; more is a decompression bomb or a mistake."""

MIN_SIDE = 4
MAX_BYTES = 64 << 20

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
_ORIENTATION = 0x0112
_UPRIGHT = 1
_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class BadFileError(Exception):
    """A file that cannot be used; the message says why, without the file's name."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A checked image or mask.

    Attributes:
        data: What is stored.
        size: Width and height of what is stored.
        orientation: The EXIF orientation that was undone, 1 for none.
        changed: Whether `data` differs from the file.
        empty: Whether all pixels are 0.
    """

    data: bytes
    size: tuple[int, int]
    orientation: int = _UPRIGHT
    changed: bool = False
    empty: bool = False


def read(path: str) -> bytes:
    """Reads a file of at most `MAX_BYTES`.

    Raises:
        BadFileError: It cannot be read, is empty or is too large.
    """
    try:
        # Should a pipe have taken the file's place since it was listed, do not wait for its writer.
        file = os.open(path, os.O_RDONLY | _NO_WAITING)
        try:
            size = os.fstat(file).st_size
            if size > MAX_BYTES:
                raise BadFileError(f"is larger than {MAX_BYTES >> 20} MiB")
            data = os.read(file, size)
        finally:
            os.close(file)
    except OSError as error:
        raise BadFileError(f"cannot be read: {error.strerror}") from error
    if not data:
        raise BadFileError("is empty")
    if len(data) < size:
        raise BadFileError("became shorter while it was read")
    return data


def check_image(data: bytes) -> Picture:
    """Decodes an image completely.

    Raises:
        BadFileError: It is no image, is damaged, or has too many or too few pixels.
    """
    pixels = _plain_jpeg(data)
    if pixels is not None:
        return Picture(data, pixels.shape[1::-1])
    image, orientation, changed = _upright(data)
    return Picture(
        encode_png(np.asarray(image)) if changed else data, image.size, orientation, changed
    )


def open_image(data: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """Decodes an image completely: upright, of 8 bits, as `check_image` stores it, in RGB.

    Raises:
        BadFileError: As there.
    """
    pixels = _plain_jpeg(data)
    return np.asarray(_upright(data)[0].convert("RGB")) if pixels is None else pixels


def _plain_jpeg(data: bytes) -> UInt8[np.ndarray, "H W 3"] | None:
    """Decodes a JPEG that is stored as it is, to PIL's bits in a quarter of PIL's time.

    None of whatever else it may be, for PIL to judge: a JPEG that may have to be turned, has an
    unusual size or colours, or at which the decoder as much as wonders.
    """
    if b"Exif\0\0" in data or b"http://ns.adobe.com/xap/1.0/\0" in data:
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        is_usual = min(height, width) >= MIN_SIDE and height * width <= MAX_PIXELS
        if is_usual and colors in ("YCbCr", "Gray", "RGB"):
            return simplejpeg.decode_jpeg(data)
    except ValueError:
        pass
    return None


def _upright(data: bytes) -> tuple[Image.Image, int, bool]:
    """The decoded image, the orientation that was undone, and whether anything was."""
    image = _decoded(data)
    orientation = _orientation(image)
    is_as_it_should_be = (
        orientation == _UPRIGHT
        and image.mode in ("RGB", "L")
        and image.format in ("JPEG", "MPO", "PNG")
        and "transparency" not in image.info
        and not _has_16_bits(image, data)
    )
    if is_as_it_should_be:
        return image, orientation, False
    if image.mode.startswith("I"):
        image = _eight_bits(image, keep_labels=False)
    upright = image.transpose(_TURNS[orientation]) if orientation != _UPRIGHT else image
    return (upright if upright.mode == "L" else upright.convert("RGB")), orientation, True


def check_mask(data: bytes, image: Picture, *, lossy: bool = False) -> Picture:
    """Decodes a mask completely and lays it on its image as stored.

    A mask of an image with an EXIF orientation is taken to lie on the image as displayed if it
    has that size, else, if it has the size of the undisplayed pixels, it is turned as they are.

    Args:
        data: The file.
        image: Its image.
        lossy: Whether masks may be JPEG files, of grey levels then and no labels: of all masks the
            red channel is taken.

    Raises:
        BadFileError: It is no PNG, is damaged or does not have the image's size.
    """
    mask = _decoded(data)
    if lossy:
        mask, changed = mask.convert("RGB").getchannel(0), True
    elif mask.format != "PNG":
        raise BadFileError(f"is a {mask.format} file; masks must be PNG, which keeps labels exact")
    else:
        changed = "transparency" in mask.info or mask.mode not in ("1", "L", "P", "RGB")
    if mask.mode.startswith("I"):
        mask = _eight_bits(mask, keep_labels=True)
    if mask.size != image.size and image.orientation != _UPRIGHT:
        mask, changed = mask.transpose(_TURNS[image.orientation]), True
    if mask.size != image.size:
        (a, b), (c, d) = mask.size, image.size
        raise BadFileError(f"is {a} x {b} pixels, but its image is {c} x {d}")
    empty = not _without_alpha(mask).getbbox() if mask.mode != "P" else _is_zero(mask)
    if changed:
        data = _encoded_mask(_without_alpha(mask))
    return Picture(data, mask.size, changed=changed, empty=empty)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _decoded(data: bytes) -> Image.Image:
    """Opens and decodes all pixels, after a look at how many there are."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's warnings of bombs and of odd metadata.
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadFileError(f"is {width} x {height} pixels, too many for a crop of a person")
            if min(width, height) < MIN_SIDE:
                raise BadFileError(f"is {width} x {height} pixels, too few to show a person")
            image.load()
    except BadFileError:
        raise
    except Image.DecompressionBombError as error:
        raise BadFileError("has too many pixels for a crop of a person") from error
    except Image.UnidentifiedImageError as error:
        raise BadFileError("is not a JPEG, PNG, BMP, WebP, TIFF or GIF image") from error
    except Exception as error:  # Decoders raise OSError, SyntaxError, struct.error and others.
        raise BadFileError(f"cannot be decoded: {' '.join(str(error).split())[:100]}") from error
    return image


def _orientation(image: Image.Image) -> int:
    if not {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"} & image.info.keys():
        return _UPRIGHT
    try:
        orientation = image.getexif().get(_ORIENTATION, _UPRIGHT)
    except Exception:  # A damaged EXIF block orients nothing.
        return _UPRIGHT
    return orientation if orientation in _TURNS else _UPRIGHT


def _has_16_bits(image: Image.Image, data: bytes) -> bool:
    # PIL cuts 16-bit colours to 8 without a word; OpenCV does not. The byte is IHDR's bit depth.
    return image.format == "PNG" and data[24] == 16


def _eight_bits(image: Image.Image, *, keep_labels: bool) -> Image.Image:
    """Reduces a 16-bit grey picture to 8 bits; small labels stay as they are if asked for."""
    values = np.asarray(image).astype(np.int64)
    if not (keep_labels and values.max() < 256):
        values = np.where(values > 0, np.maximum(values >> 8, int(keep_labels)), 0)
    return Image.fromarray(values.astype(np.uint8))


def _without_alpha(mask: Image.Image) -> Image.Image:
    if mask.mode in ("LA", "La"):
        return mask.getchannel(0)
    return mask if mask.mode in ("1", "L", "P", "RGB") else mask.convert("RGB")


def _is_zero(mask: Image.Image) -> bool:
    return not np.asarray(mask).any()


def _encoded_mask(mask: Image.Image) -> bytes:
    mask.info.pop("transparency", None)
    buffer = io.BytesIO()
    mask.save(buffer, format="PNG", pnginfo=noted_kind(mask))
    return buffer.getvalue()
