"""A map of features in the plane, by t-SNE: who lies near whom, and in which clothes."""

import json

import numpy as np
from jaxtyping import Float32
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from sicl_jax.data.dataset import Split
from sicl_jax.evaluation.features import UNKNOWN, FeatureSet
from sicl_jax.report.document import data_uri, element, evenly, note, section

_MOST_PEOPLE = 10
_MOST_IMAGES = 14  # Of one person.
_WIDTH, _HEIGHT, _MARGIN = 860, 560, 24
_COLUMNS = 20
_THUMB = (32, 64)
_COLORS = 8
# The outfits of a person, in the order of their numbers; more than four share the last shape.
_SHAPES = (
    '<circle class="mark {c}" r="9.5"/>',
    '<path class="mark {c}" d="M0 -12L11.5 8H-11.5Z"/>',
    '<path class="mark {c}" d="M-9 -9H9V9H-9Z"/>',
    '<path class="mark {c}" d="M0 -12L12 0L0 12L-12 0Z"/>',
)


def map_section(sides: list[tuple[Split, FeatureSet]]) -> str:
    """A section with the map of some people's test images; empty where fewer than four are known.

    Args:
        sides: Queries and gallery: their images and their features.
    """
    identities = np.concatenate([found.labels["identity"] for _, found in sides])
    clothes = np.concatenate([found.labels["clothes"] for _, found in sides])
    names = [name for split, _ in sides for name in split.names]
    rows, people = _chosen(identities, clothes)
    if len(rows) < 4:
        return ""
    places = plane(_features(rows, sides))
    outfits = {p: np.unique(clothes[rows][identities[rows] == p]) for p in people}
    marks, points = [], []
    for number, (row, place) in enumerate(zip(rows, places, strict=True)):
        person = int(identities[row])
        outfit = int(np.searchsorted(outfits[person], clothes[row]))
        x, y = (round(float(value), 1) for value in place)
        label = people.index(person)
        shape = _SHAPES[min(outfit, len(_SHAPES) - 1)].format(c=f"f{label % _COLORS}")
        marks.append(
            f'<g class="point" transform="translate({x} {y})">{shape}<text>{label + 1}</text></g>'
        )
        column, line = number % _COLUMNS, number // _COLUMNS
        words = f"{label + 1}: person {person}, outfit {outfit + 1}; {names[row]}"
        points.append([x, y, column, line, words])
    return section(
        "map", "Map of features", note(_words(rows, people)), _figure(marks, points, rows, sides)
    )


def plane(features: Float32[np.ndarray, "N D"]) -> np.ndarray:
    """(N, 2) places within the drawing: t-SNE of the first 50 principal components."""
    count = len(features)
    parts = PCA(min(50, count, features.shape[1]), random_state=0).fit_transform(features)
    perplexity = min(30.0, (count - 1) / 3)
    flat = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(parts)
    low, high = flat.min(axis=0), flat.max(axis=0)
    size = np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN
    return _MARGIN + (flat - low) / np.maximum(high - low, 1e-9) * size


def _chosen(identities: np.ndarray, clothes: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Rows of a few people, as many of each outfit as there are, and those people."""
    people, counts = np.unique(identities[identities != UNKNOWN], return_counts=True)
    people = people[evenly(len(people), _MOST_PEOPLE)].tolist()
    rows = []
    for person in people:
        of_person = np.flatnonzero(identities == person)
        outfits = [of_person[clothes[of_person] == c] for c in np.unique(clothes[of_person])]
        share = max(1, _MOST_IMAGES // len(outfits))
        for outfit in outfits:
            rows.extend(outfit[evenly(len(outfit), share)])
    return np.array(rows, int), people


def _words(rows: np.ndarray, people: list[int]) -> str:
    return (
        f"{len(rows)} test images of {len(people)} people, laid out by t-SNE: near means alike. A "
        "number is a person, a shape one of the person's outfits. Where clothes do not matter, the "
        "shapes of a number lie together. Point at a mark, or use the arrow keys, to see the image."
    )


def _figure(marks: list[str], points: list, rows: np.ndarray, sides) -> str:
    svg = element(
        "svg",
        *marks,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        tabindex=0,
        aria_label=f"map of the features of {len(rows)} images",
        data_map=json.dumps({"columns": _COLUMNS, "points": points}),
    )
    sprite = f'<img class="sprite" hidden alt="" src="{data_uri(_sprite(rows, sides))}">'
    tip = element("div", class_="tip", aria_hidden="true")
    return element("figure", svg, sprite, tip, class_="map")


def _features(rows: np.ndarray, sides) -> np.ndarray:
    """Features of rows of all sides together, without a copy of them all."""
    return np.stack([sides[side][1].features[row] for side, row in _places(rows, sides)])


def _places(rows: np.ndarray, sides) -> list[tuple[int, int]]:
    """Side and row in it of rows counted through all sides."""
    starts = np.cumsum([0] + [len(split) for split, _ in sides])
    found = np.searchsorted(starts, rows, side="right") - 1
    return list(zip(found, rows - starts[found], strict=True))


def _sprite(rows: np.ndarray, sides) -> Image.Image:
    """All thumbnails in one picture, `_COLUMNS` a line."""
    width, height = _THUMB
    sheet = Image.new("RGB", (width * _COLUMNS, height * -(-len(rows) // _COLUMNS)))
    for number, (side, row) in enumerate(_places(rows, sides)):
        image = Image.fromarray(np.asarray(sides[side][0].pixels["image"][row]))
        corner = (number % _COLUMNS * width, number // _COLUMNS * height)
        sheet.paste(image.resize(_THUMB, Image.Resampling.LANCZOS), corner)
    return sheet
