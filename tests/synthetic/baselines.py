"""Two retrieval baselines that learn nothing: colours, and the outline."""

import dataclasses

import cv2
import numpy as np

from tfds_builders.synthetic_people import photograph
from tfds_builders.synthetic_people.world import World, shots

SPLITS = ("train", "query_same", "query_changed", "gallery")


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A split in memory: images (N, H, W, 3), masks (N, H, W), identities (N,)."""

    images: np.ndarray
    masks: np.ndarray
    identities: np.ndarray


def draw(world: World, split: str) -> Drawn:
    """Draws a split."""
    wanted = list(shots(world, split))
    images, masks = zip(*(photograph.take(world, shot) for shot in wanted), strict=True)
    identities = np.array([shot.identity for shot in wanted])
    return Drawn(np.stack(images), np.stack(masks), identities)


def draw_test_splits(world: World) -> dict[str, Drawn]:
    return {split: draw(world, split) for split in SPLITS[1:]}


def colour_features(data: Drawn) -> np.ndarray:
    """(N, 384): histograms of hue, saturation and value on the person, for three bands."""
    rows = []
    for image, mask in zip(data.images, data.masks, strict=True):
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        bands = []
        for part, cover in zip(np.array_split(hsv, 3), np.array_split(mask, 3), strict=True):
            ranges = [0, 180, 0, 256, 0, 256]
            counts = cv2.calcHist([part], [0, 1, 2], cover, [8, 4, 4], ranges).ravel()
            bands.append(np.sqrt(counts / max(counts.sum(), 1)))
        rows.append(np.concatenate(bands))
    return np.stack(rows) / np.sqrt(3)


def _outlines(masks: np.ndarray) -> np.ndarray:
    """(N, 64 * 32) unit rows: the masks, blurred and made small."""
    rows = []
    for mask in masks:
        soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), len(mask) / 64)
        row = cv2.resize(soft, (32, 64), interpolation=cv2.INTER_AREA).ravel()
        rows.append(row / np.linalg.norm(row))
    return np.stack(rows)


def colour_similarities(query: Drawn, gallery: Drawn) -> np.ndarray:
    return colour_features(query) @ colour_features(gallery).T


def silhouette_similarities(query: Drawn, gallery: Drawn) -> np.ndarray:
    """Cosine of the outlines, or of one and the other's mirror image where that is larger."""
    rows = _outlines(query.masks)
    plain, mirrored = _outlines(gallery.masks), _outlines(gallery.masks[:, :, ::-1])
    return np.maximum(rows @ plain.T, rows @ mirrored.T)


def score(similarities: np.ndarray, query: Drawn, gallery: Drawn) -> tuple[float, float]:
    """Rank-1 and mAP over the whole gallery."""
    order = np.argsort(-similarities, axis=1, kind="stable")
    hits = gallery.identities[order] == query.identities[:, None]
    precision = np.cumsum(hits, 1) / np.arange(1, hits.shape[1] + 1)
    average = (precision * hits).sum(1) / hits.sum(1)
    return float(hits[:, 0].mean()), float(average.mean())


def chance(query: Drawn, gallery: Drawn, draws: int = 20) -> tuple[float, float]:
    """Rank-1 and mAP of random rankings."""
    rng = np.random.default_rng(0)
    shape = (len(query.identities), len(gallery.identities))
    scores = [score(rng.random(shape), query, gallery) for _ in range(draws)]
    return tuple(np.mean(scores, axis=0).tolist())


def table(test: dict[str, Drawn]) -> dict[str, dict[str, tuple[float, float]]]:
    """Rank-1 and mAP of chance, colour and silhouette for both kinds of query."""
    gallery = test["gallery"]
    return {
        split: {
            "chance": chance(test[split], gallery),
            "colour": score(colour_similarities(test[split], gallery), test[split], gallery),
            "silhouette": score(
                silhouette_similarities(test[split], gallery), test[split], gallery
            ),
        }
        for split in ("query_same", "query_changed")
    }
