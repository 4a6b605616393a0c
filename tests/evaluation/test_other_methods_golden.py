"""The tests of CSSC, CCLNet, DeskPro and Cluster Contrast, as their published codes count."""

import dataclasses

import numpy as np
import pytest

from sicl_jax.evaluation import FeatureSet, evaluate_dataset, rules
from sicl_jax.evaluation.distances import distance_rows
from sicl_jax.evaluation.evaluate import drawn_gallery
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.protocols import Draw
from sicl_jax.evaluation.ranking import rank


def side(numbers, name):
    """Queries or gallery, unit rows, of a file that calls its arrays `query_identities`, ..."""
    names = {"identity": "identities", "camera": "cameras", "clothes": "clothes"}
    labels = {
        label: numbers[f"{name}_{plural}"]
        for label, plural in names.items()
        if f"{name}_{plural}" in numbers
    }
    rows = numbers[f"{name}_features"]
    return FeatureSet(rows / np.linalg.norm(rows, axis=1, keepdims=True), labels)


@pytest.fixture(scope="module")
def cssc(golden):
    numbers = golden("cssc/evaluation")
    return numbers, side(numbers, "query"), side(numbers, "gallery")


@pytest.mark.parametrize(
    ("dataset", "protocol", "name"),
    [
        ("prcc", "cloth_changing/all", "prcc_all"),
        ("ltcc", "standard", "ltcc_standard"),
        ("ltcc", "cloth_changing", "ltcc_cloth_changing"),
        ("celeb_reid", "standard/cssc_released", "celeb_released"),
    ],
)
def test_cssc(cssc, dataset, protocol, name):
    numbers, query, gallery = cssc
    splits = {"query": query, "query_changed": query, "gallery": gallery}
    result = evaluate_dataset(dataset, splits, only=[protocol])[protocol]
    np.testing.assert_allclose(result.cmc, numbers[f"{name}_cmc"], atol=1e-6)
    assert result.mAP == pytest.approx(float(numbers[f"{name}_map"]), abs=1e-6)


def test_cssc_celebrities_of_distinct_cameras(cssc):
    """As our builder gives them: query and gallery count as two cameras, so nothing is dropped."""
    numbers, query, gallery = cssc
    sides = [
        dataclasses.replace(each, labels={**each.labels, "camera": np.full(len(each), camera)})
        for camera, each in enumerate((query, gallery))
    ]
    result = evaluate_dataset("celeb_reid", dict(zip(("query", "gallery"), sides, strict=True)))
    assert result["standard"].mAP == pytest.approx(float(numbers["celeb_distinct_map"]), abs=1e-6)
    assert result["standard/cssc_released"].mAP < result["standard"].mAP


def test_cssc_distances(cssc):
    numbers, query, gallery = cssc
    found = distance_rows(query, gallery)(0, len(query))
    np.testing.assert_allclose(found, numbers["distance"], atol=1e-5)


@pytest.fixture(scope="module")
def sysu(golden):
    """CCLNet's file, and the splits of `sysu_mm01` made of it."""
    numbers = golden("cclnet/evaluation")
    cameras, persons = zip(*(name.split("/")[:2] for name in numbers["files"]), strict=True)
    camera = np.array([int(name.removeprefix("cam")) for name in cameras])
    labels = {"identity": np.array(persons, int), "camera": camera}
    images = FeatureSet(numbers["features"], labels, similarity="dot")
    tested = np.isin(labels["identity"], numbers["test_ids"])
    infrared = np.isin(camera, (3, 6))
    rows = {
        "query": np.flatnonzero(tested & infrared),
        "gallery": np.flatnonzero(tested & ~infrared),
    }
    return numbers, rows, {name: images.take(chosen) for name, chosen in rows.items()}


@pytest.mark.parametrize(("mode", "cameras"), [("all", (1, 2, 4, 5)), ("indoor", (1, 2))])
def test_cclnet_draws_of_sysu_mm01(sysu, mode, cameras):
    numbers, rows, splits = sysu
    seen = np.isin(splits["gallery"].labels["camera"], cameras)
    gallery = dataclasses.replace(splits["gallery"], names=map(str, rows["gallery"])).take(seen)
    draw = Draw(("identity", "camera"), released=True)
    for trial, expected in enumerate(numbers[f"{mode}_gallery"]):
        drawn = drawn_gallery(gallery, draw, seed=5, trial=trial)
        assert sorted(map(int, drawn.names)) == sorted(expected.tolist())


@pytest.mark.parametrize("mode", ["all", "indoor"])
def test_cclnet_on_sysu_mm01(sysu, mode):
    numbers, _, splits = sysu
    name = f"{mode}_search/single_shot"
    result = evaluate_dataset("sysu_mm01", splits, only=[name])[name]
    np.testing.assert_allclose(result.cmc[:20], numbers[f"{mode}_mean_cmc"], atol=1e-6)
    assert result.mAP == pytest.approx(float(numbers[f"{mode}_mean_map"]), abs=1e-6)
    assert result.mINP == pytest.approx(float(numbers[f"{mode}_mean_minp"]), abs=1e-6)
    assert result.skipped == int(numbers[f"{mode}_queries_without_match"])
    for trial, ranking in enumerate(result.rankings):
        of_trial = summarize(ranking)
        np.testing.assert_allclose(of_trial.cmc[:20], numbers[f"{mode}_cmc"][trial], atol=1e-6)
        assert of_trial.mAP == pytest.approx(float(numbers[f"{mode}_map"][trial]), abs=1e-6)


def test_cclnet_on_regdb(sysu):
    numbers, _, _ = sysu
    persons = np.array([int(name.split("/")[1]) for name in numbers["files"]])
    images = FeatureSet(numbers["features"], {"identity": persons}, similarity="dot")
    splits = {name: images.take(numbers[f"regdb_{name}"]) for name in ("query", "gallery")}
    result = evaluate_dataset("regdb", splits)["visible_to_infrared"]
    np.testing.assert_allclose(result.cmc[:20], numbers["regdb_cmc"], atol=1e-6)
    assert result.mAP == pytest.approx(float(numbers["regdb_map"]), abs=1e-6)
    assert result.mINP == pytest.approx(float(numbers["regdb_minp"]), abs=1e-6)


def test_deskpro(golden):
    numbers = golden("deskpro/evaluation")
    query, gallery = (
        FeatureSet(
            np.zeros((len(numbers[f"{name}_ids"]), 1)),
            {"identity": numbers[f"{name}_ids"], "camera": numbers[f"{name}_cameras"]},
        )
        for name in ("query", "gallery")
    )
    rows = numbers["distance"]
    ranking = rank(query, gallery, {"": rules.STANDARD}, distances=lambda a, b: rows[a:b])[""]
    result = summarize(ranking)
    assert ranking.first_match[0] == 0 and result.skipped == 1
    np.testing.assert_allclose(result.cmc, numbers["cmc_python"], atol=1e-6)
    assert result.mAP == pytest.approx(float(numbers["map_python"]), abs=1e-7)


@pytest.fixture(scope="module")
def contrast(golden):
    numbers = golden("cluster_contrast/evaluation")
    return numbers, side(numbers, "query"), side(numbers, "gallery")


def test_cluster_contrast(contrast):
    numbers, query, gallery = contrast
    results = evaluate_dataset("market1501", {"query": query, "gallery": gallery})
    for result in results.values():
        first = result.rankings[0].first_match
        curve = [np.mean(first[first > 0] <= k) for k in range(1, 101)]
        np.testing.assert_allclose(curve, numbers["cmc"], atol=1e-6)
        assert result.mAP == pytest.approx(float(numbers["map"]), abs=1e-6)


def test_cluster_contrast_takes_equal_distances_as_one_step(contrast):
    numbers, query, gallery = contrast
    rows = numbers["tied_distance"]
    precisions = {
        ties: summarize(
            rank(
                query,
                gallery,
                {"": rules.STANDARD},
                ties=ties,
                distances=lambda a, b: rows[a:b],
            )[""]
        ).mAP
        for ties in ("in order", "together")
    }
    assert precisions["together"] == pytest.approx(float(numbers["tied_map"]), abs=1e-6)
    assert abs(precisions["in order"] - precisions["together"]) > 1e-4
