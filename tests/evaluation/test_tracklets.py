"""Protocols of tracklets against a loop over tracklets."""

import numpy as np
import pytest

from sicl_jax.errors import UserError
from sicl_jax.evaluation import FeatureSet, evaluate_dataset, protocols


def side(seed: int, images: int = 60) -> FeatureSet:
    """Unit features of frames in mixed order: tracklets of 1 to many frames, an outfit each."""
    rng = np.random.default_rng(seed)
    tracklet = rng.integers(12, size=images).astype(np.int32)
    labels = {
        "identity": tracklet % 4,
        "camera": tracklet // 4 + seed % 2,
        "clothes": tracklet % 4 * 2 + tracklet // 4 % 2,
        "tracklet": tracklet + 100 * seed,
    }
    centres = np.random.default_rng(9).normal(size=(4, 6))
    features = centres[tracklet % 4] + 1.5 * rng.normal(size=(images, 6))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return FeatureSet(features, labels, tuple(f"{seed}/{row}.jpg" for row in range(images)))


def averaged(side: FeatureSet) -> list[dict]:
    """A tracklet after the other, in the order of their first frames."""
    found = {}
    for row in range(len(side)):
        tracklet = found.setdefault(int(side.labels["tracklet"][row]), {"frames": []})
        tracklet["frames"].append(side.features[row].astype(np.float64))
        for label in ("identity", "camera", "clothes"):
            tracklet[label] = int(side.labels[label][row])
    for tracklet in found.values():
        mean = sum(tracklet["frames"]) / len(tracklet["frames"])
        tracklet["feature"] = mean / np.sqrt((mean**2).sum())
    return list(found.values())


DROPS = {
    "cloth_changing": lambda q, g: q["camera"] == g["camera"] or q["clothes"] == g["clothes"],
    "same_clothes": lambda q, g: q["camera"] == g["camera"] or q["clothes"] != g["clothes"],
    "standard": lambda q, g: q["camera"] == g["camera"],
}


def brute_force(queries: list[dict], gallery: list[dict], drops) -> tuple[float, float, int]:
    """mAP, rank-1 and the number of queries, a list at a time."""
    precisions, firsts = [], []
    for query in queries:
        left = [g for g in gallery if g["identity"] != query["identity"] or not drops(query, g)]
        left.sort(key=lambda g: -float(query["feature"] @ g["feature"]))
        hits = [rank for rank, g in enumerate(left, 1) if g["identity"] == query["identity"]]
        if hits:
            precisions.append(np.mean([(n + 1) / rank for n, rank in enumerate(hits)]))
            firsts.append(hits[0] == 1)
    return float(np.mean(precisions)), float(np.mean(firsts)), len(firsts)


@pytest.mark.parametrize("seed", [1, 3])
def test_ccvid_averages_over_tracklets(seed):
    splits = {"query": side(seed), "gallery": side(seed + 1, images=90)}
    results = evaluate_dataset("ccvid", splits)
    assert set(results) == {protocol.name for protocol in protocols("ccvid")} == set(DROPS)
    tracklets = {name: averaged(found) for name, found in splits.items()}
    for name, drops in DROPS.items():
        mean, first, count = brute_force(tracklets["query"], tracklets["gallery"], drops)
        found = results[name]
        assert (found.queries, found.rank1) == (count, pytest.approx(first, abs=1e-9)), name
        assert found.mAP == pytest.approx(mean, abs=1e-9), name
        assert found.queries + found.skipped == len(tracklets["query"])


def test_images_of_a_tracklet_are_those_that_bear_the_same_labels():
    features = np.float32([[1, 0], [0, 1], [2, 0], [0, 4], [0, 1], [3, 0]])
    labels = {"tracklet": [7, -1, 7, 7, -1, 8], "identity": [1, 1, 1, 2, 1, 1]}
    names = tuple("abcdef")
    found = FeatureSet(features, labels, names).by_tracklet()
    assert found.names == ("a", "b", "d", "e", "f")  # c is a's, d another person's.
    np.testing.assert_allclose(found.features, [[1.5, 0], [0, 1], [0, 4], [0, 1], [3, 0]])
    features[2] = [0, 3]
    found = FeatureSet(features, labels, names).by_tracklet()
    # The mean of both is [0.5, 1.5]; their mean length is 2.
    np.testing.assert_allclose(found.features[0], np.array([1, 3]) * 2 / np.sqrt(10), rtol=1e-6)
    found = FeatureSet(features, labels, names, similarity="dot").by_tracklet()
    np.testing.assert_allclose(found.features[0], [0.5, 1.5])


def test_tracklets_must_be_known():
    known = side(1)
    labels = {name: values for name, values in known.labels.items() if name != "tracklet"}
    with pytest.raises(UserError, match="ccvid, cloth_changing: label tracklet of 120 images is"):
        evaluate_dataset(
            "ccvid", dict.fromkeys(("query", "gallery"), FeatureSet(known.features, labels))
        )
