"""HTML documents in one file: no network, light and dark, pictures as data."""

import base64
import html
import importlib.resources
import io
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageOps

from sicl_jax.errors import UserError

THUMB_WIDTH = 88
_QUALITY = 82
# Before anything is painted; script.js does the rest.
_THEME = (
    "document.documentElement.dataset.theme="
    "matchMedia('(prefers-color-scheme: dark)').matches?'dark':'light'"
)


def text(value: object) -> str:
    """A value as HTML text or attribute."""
    return html.escape(str(value))


def element(tag: str, *content: str, **attributes: object) -> str:
    """An element; `content` is HTML already, attributes are not. `class_` stands for class.

    Attributes that are None or False are left out, True ones have no value.
    """
    words = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        words.append(name if value is True else f'{name}="{text(value)}"')
    inside = "".join(content)
    return f"<{' '.join(words)}>{inside}</{tag}>"


def picture(
    image: np.ndarray | Image.Image, alt: str, *, width: int = THUMB_WIDTH, **attributes: object
) -> str:
    """An image as an element that holds its pixels, reduced to `width` pixels if it is wider.

    Args:
        image: (H, W, 3) or (H, W) uint8, or a PIL image.
        alt: What it shows, for those who do not see it.
        width: Of the stored picture.
        attributes: Of the element.
    """
    if not isinstance(image, Image.Image):
        image = Image.fromarray(np.asarray(image))
    image = image.convert("RGB")
    if image.width > width:
        height = max(1, round(image.height * width / image.width))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    size = {"width": image.width, "height": image.height}
    source = "".join(
        f' {name.rstrip("_")}="{text(value)}"' for name, value in {**size, **attributes}.items()
    )
    return f'<img src="{data_uri(image)}" alt="{text(alt)}"{source}>'


def thumb(path: str) -> Image.Image:
    """An image file at `THUMB_WIDTH`, twice as high; a grey one where the file is gone.

    Raises:
        UserError: It can no longer be read.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", (4 * THUMB_WIDTH, 8 * THUMB_WIDTH))
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        return Image.new("RGB", (THUMB_WIDTH, 2 * THUMB_WIDTH), "#888888")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read any more ({error}); index its folder anew"
        ) from error
    return upright.resize((THUMB_WIDTH, 2 * THUMB_WIDTH), Image.Resampling.BICUBIC)


def data_uri(image: Image.Image) -> str:
    """A picture as a JPEG in an address."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def evenly(count: int, most: int) -> np.ndarray:
    """Places at even steps from the first of `count` to the last, at most so many."""
    return np.round(np.linspace(0, count - 1, min(most, count))).astype(int)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls where it is too wide; cells are HTML already."""
    top = element("tr", *(element("th", cell, scope="col") for cell in head))
    body = "".join(element("tr", *(element("td", cell) for cell in row)) for row in rows)
    inside = element("table", element("thead", top), element("tbody", body))
    return element("div", inside, class_="scroll", tabindex=0, role="region", aria_label="table")


def section(name: str, title: str, *content: str) -> str:
    """A part of a document that `document`'s navigation leads to."""
    heading = element("h2", text(title), id=f"{name}-title")
    return element("section", heading, *content, id=name, aria_labelledby=f"{name}-title")


def note(words: str) -> str:
    """A sentence that explains what is below it."""
    return element("p", text(words), class_="note")


def banner(words: str) -> str:
    """A sentence that must not be missed."""
    return element("p", text(words), class_="banner", role="note")


def document(
    title: str, subtitle: str, content: str, *, parts: Sequence[tuple[str, str]] = ()
) -> str:
    """A whole document.

    Args:
        title: Its title, plain text.
        subtitle: A line below it, plain text.
        content: HTML.
        parts: Names and titles of its sections, for the navigation.
    """
    links = "".join(element("a", text(words), href=f"#{name}") for name, words in parts)
    theme = element("button", "Light / dark", id="theme", type="button")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="generator" content="sicl_jax"><link rel="icon" href="data:,">'
        f"<script>{_THEME}</script>"
        f"<title>{text(title)}</title><style>{_resource('style.css')}</style></head><body>"
        '<a class="skip" href="#content">Skip to content</a>'
        f"<header><div><h1>{text(title)}</h1><p>{text(subtitle)}</p></div></header>"
        f'<nav aria-label="Sections"><div><div class="links">{links}</div>{theme}</div></nav>'
        f'<main id="content">{content}</main>'
        f"<script>{_resource('script.js')}</script></body></html>\n"
    )


def _resource(name: str) -> str:
    return importlib.resources.files("sicl_jax.report").joinpath(name).read_text("utf-8")
