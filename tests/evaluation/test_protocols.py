"""Each data set's protocols: who is compared with whom."""

import dataclasses
import json
import random

import numpy as np
import pytest
from sides import identities, relabel, splits

from sicl_jax.console import progress
from sicl_jax.errors import UsageError
from sicl_jax.evaluation import (
    METRICS,
    Draw,
    FeatureSet,
    Protocol,
    Protocols,
    Reranking,
    Selection,
    Side,
    by_camera,
    clothes_changing_identities,
    evaluate_dataset,
    primary_protocol,
    protocols,
    register_protocols,
    required_splits,
    rules,
    selection_protocol,
    selects_on_test,
)
from sicl_jax.evaluation.evaluate import drawn_gallery
from sicl_jax.evaluation.metrics import summarize
from sicl_jax.evaluation.ranking import rank
from sicl_jax.register import PROTOCOLS

PRCC = {"query_changed", "query_same", "gallery"}


def clothes(side):
    return side.labels["clothes"]


def figures(query, gallery, rule):
    return summarize(rank(query, gallery, {"": rule})[""]).figures()


@pytest.mark.parametrize(
    ("dataset", "needed", "primary"),
    [
        ("prcc", PRCC, "cloth_changing/single_shot"),
        ("synthetic_people/demo", PRCC, "cloth_changing/single_shot"),
        ("ltcc", {"query", "gallery"}, "cloth_changing"),
        ("vc_clothes", {"query", "gallery"}, "cloth_changing"),
        ("celeb_reid", {"query", "gallery"}, "standard"),
        ("celeb_reid_light", {"query", "gallery"}, "standard"),
        ("deepchange", {"query", "gallery", "val_query", "val_gallery"}, "standard"),
        ("person_folder", {"query", "gallery"}, "cloth_changing"),
        ("market1501", {"query", "gallery"}, "standard"),
        ("sysu_mm01", {"query", "gallery"}, "all_search/single_shot"),
        ("regdb", {"query", "gallery"}, "visible_to_infrared"),
        ("llcm", {"query", "gallery"}, "visible_to_infrared"),
    ],
)
def test_every_data_set(dataset, needed, primary):
    assert set(required_splits(dataset)) == needed
    assert primary_protocol(dataset) == primary
    results = evaluate_dataset(dataset, splits(dataset))
    # SYSU-MM01's official draws are not there.
    run = [p.name for p in protocols(dataset) if not p.name.endswith("_official")]
    assert list(results) == run
    assert next(iter(results)) == primary
    for result in results.values():
        assert set(METRICS) <= json.loads(json.dumps(result.as_dict())).keys()
        assert 0 < result.mINP <= result.mAP <= 1
        assert result.queries + result.skipped <= 120


def test_prcc_draws_one_image_of_each_person():
    given = splits("prcc")
    result = evaluate_dataset("prcc", given, seed=3)["cloth_changing/single_shot"]
    gallery = given["gallery"]
    drawn = []
    for draw in range(10):
        chosen = np.random.default_rng([3, draw])
        of_each = [np.flatnonzero(gallery.labels["identity"] == person) for person in range(8)]
        picks = chosen.integers([len(rows) for rows in of_each])
        rows = np.sort([rows[pick] for rows, pick in zip(of_each, picks, strict=True)])
        drawn.append(figures(given["query_changed"], gallery.take(rows), rules.NOTHING))
    for metric in METRICS:
        values = [figure[metric] for figure in drawn]
        assert getattr(result, metric) == pytest.approx(np.mean(values))
        assert result.std[metric] == pytest.approx(np.std(values))
    kept = sorted(drawn, key=lambda figure: (figure["rank1"], figure["mAP"]))[1:-1]
    trimmed = evaluate_dataset("prcc", given, seed=3)["cloth_changing/single_shot_trimmed"]
    assert trimmed.draws == 8
    assert trimmed.mAP == pytest.approx(np.mean([figure["mAP"] for figure in kept]))
    assert trimmed.rank1 == pytest.approx(np.mean([figure["rank1"] for figure in kept]))


def test_prcc_draws_are_decided_by_the_seed():
    given = splits("prcc")
    name = "cloth_changing/single_shot"
    first, again, other = (evaluate_dataset("prcc", given, seed=seed)[name] for seed in (0, 0, 1))
    assert first.mAP == again.mAP != other.mAP


def test_prcc_compares_the_right_splits():
    given = splits("prcc")
    results = evaluate_dataset("prcc", given)
    for side, query in (("cloth_changing", "query_changed"), ("same_clothes", "query_same")):
        expected = figures(given[query], given["gallery"], rules.NOTHING)
        assert results[f"{side}/all"].figures() == pytest.approx(expected)


def test_single_shot_of_one_image_each_is_all_of_it():
    given = splits("prcc")
    gallery = given["gallery"]
    rows = [int(np.flatnonzero(gallery.labels["identity"] == person)[0]) for person in range(8)]
    results = evaluate_dataset("prcc", given | {"gallery": gallery.take(np.array(rows))})
    drawn, whole = results["same_clothes/single_shot"], results["same_clothes/all"]
    assert drawn.figures() == pytest.approx(whole.figures())
    assert max(drawn.std.values()) < 1e-12


def test_distractors_are_not_drawn():
    given = splits("prcc")
    gallery = given["gallery"]
    labels = {
        name: np.concatenate([values, np.full(60, -1) if name == "identity" else values])
        for name, values in gallery.labels.items()
    }
    with_distractors = FeatureSet(np.tile(gallery.features, (2, 1)), labels)
    name = "cloth_changing/single_shot"
    plain = evaluate_dataset("prcc", given)[name]
    more = evaluate_dataset("prcc", given | {"gallery": with_distractors})[name]
    assert more.as_dict() == plain.as_dict()


def test_vc_clothes_takes_two_cameras():
    given = splits("vc_clothes")
    results = evaluate_dataset("vc_clothes", given)
    for name, cameras in (("cloth_changing", (3, 4)), ("same_clothes", (2, 3))):
        query, gallery = (
            side.take(np.isin(side.labels["camera"], cameras))
            for side in (given["query"], given["gallery"])
        )
        expected = figures(query, gallery, rules.STANDARD)
        assert results[name].figures() == pytest.approx(expected)


def test_ltcc_restricted_to_who_changes_clothes():
    given = splits("ltcc")
    # Persons 0 to 4 wear one outfit each; the others change.
    given = {
        name: relabel(side, clothes=np.where(identities(side) < 5, identities(side), clothes(side)))
        for name, side in given.items()
    }
    changing = clothes_changing_identities(given.values())
    assert changing == [5, 6, 7]
    name = "cloth_changing/changing_identities"
    results = evaluate_dataset("ltcc", given)
    query, gallery = (
        side.take(identities(side) >= 5) for side in (given["query"], given["gallery"])
    )
    expected = figures(query, gallery, rules.CLOTH_CHANGING)
    assert results[name].figures() == pytest.approx(expected)
    assert results["cloth_changing"].mAP < results[name].mAP  # More distractors.
    listed = evaluate_dataset("ltcc", given, changing_identities=[5, 6])[name]
    assert listed.queries < results[name].queries


def test_the_released_rule_is_beside_the_standard_one():
    results = evaluate_dataset("ltcc", splits("ltcc"))
    assert results["standard/released"].mAP < results["standard"].mAP
    released = results["standard/released"].figures()
    assert released == pytest.approx(results["cloth_changing"].figures())


def test_deepchange_drops_tracklets_not_cameras():
    given = splits("deepchange")
    results = evaluate_dataset("deepchange", given)
    expected = figures(given["val_query"], given["val_gallery"], rules.SAME_TRACKLET)
    assert results["validation"].figures() == pytest.approx(expected)
    one_camera = {name: relabel(side, camera=np.ones(60, int)) for name, side in given.items()}
    assert evaluate_dataset("deepchange", one_camera)["standard"].mAP == results["standard"].mAP


def test_splits_that_are_not_there_are_left_out():
    given = splits("deepchange")
    validation = {name: side for name, side in given.items() if name.startswith("val")}
    results = evaluate_dataset("deepchange", validation)
    assert list(results) == ["validation"]
    assert selection_protocol("deepchange") == "validation"
    assert primary_protocol("deepchange", results) == "validation"
    test = evaluate_dataset("deepchange", given, only=["standard"])
    assert selection_protocol("deepchange", test) == "standard"


def test_selection_is_by_the_primary_protocol_elsewhere():
    assert selection_protocol("synthetic_people/tiny") == "cloth_changing/single_shot"


def test_a_folder_without_clothes_has_the_standard_test_alone():
    unknown = np.full(60, -1)
    given = {
        name: relabel(side, clothes=unknown, camera=unknown)
        for name, side in splits("person_folder").items()
    }
    results = evaluate_dataset("person_folder", given)
    assert list(results) == ["standard"]
    expected = figures(given["query"], given["gallery"], rules.NOTHING)
    assert results["standard"].figures() == pytest.approx(expected)
    assert primary_protocol("person_folder", results) == "standard"


def test_a_folder_in_which_nobody_changes():
    given = {
        name: relabel(side, clothes=identities(side))
        for name, side in splits("person_folder").items()
    }
    assert list(evaluate_dataset("person_folder", given)) == ["same_clothes", "standard"]


def test_reranking_changes_the_distances_of_all_protocols():
    given = splits("ltcc")
    plain = evaluate_dataset("ltcc", given)
    reranked = evaluate_dataset("ltcc", given, reranking=Reranking())
    assert all(plain[name].mAP != reranked[name].mAP for name in plain)


def test_a_bootstrap_brackets_every_figure():
    results = evaluate_dataset("prcc", splits("prcc"), bootstrap=200)
    for result in results.values():
        for metric, (low, high) in result.interval.items():
            assert low <= getattr(result, metric) <= high


def test_progress_counts_the_queries():
    told = []

    class Bar:
        def __init__(self, total, description):
            told.append([description, total, 0])

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def advance(self, amount=1):
            told[-1][2] += amount

    evaluate_dataset("prcc", splits("prcc"), progress=Bar)
    assert [total for _, total, _ in told] == [600, 60, 600, 60]
    evaluate_dataset("celeb_reid", splits("celeb_reid"), progress=Bar, reranking=Reranking())
    assert told[-1][1] == 60 + 120
    assert all(done == total for _, total, done in told)
    evaluate_dataset("celeb_reid", splits("celeb_reid"), progress=progress)


def test_an_unknown_data_set_has_the_protocols_of_a_folder():
    assert protocols("my_data/config") == protocols("person_folder")
    assert required_splits("my_data") == ("query", "gallery")
    assert required_splits("my_data", ["train", "gallery"]) == protocols("my_data", ["query"]) == ()
    assert list(evaluate_dataset("my_data", splits("my_data"))) == [
        "cloth_changing",
        "same_clothes",
        "standard",
    ]


@pytest.fixture
def own_protocols(monkeypatch):
    monkeypatch.setattr(PROTOCOLS, "_registered", dict(PROTOCOLS._registered))


@pytest.mark.usefixtures("own_protocols")
def test_own_protocols():
    night = Selection(Side.of("query", camera=(1, 2)), Side.of("gallery", camera=(3,)))
    table = [
        Protocol("night", (night,)),
        Protocol("night/validation", (Selection(Side("val"), Side("val")),), validation=True),
    ]
    register_protocols("my_data", table)
    with pytest.raises(UsageError, match="'my_data' is registered already"):
        register_protocols("my_data", table)
    assert required_splits("my_data") == ("query", "gallery", "val")
    assert required_splits("my_data", ["gallery", "query"]) == ("query", "gallery")
    assert primary_protocol("my_data") == "night"
    assert selection_protocol("my_data") == "night/validation"
    assert selection_protocol("my_data", ["night"]) == "night"
    assert selects_on_test("my_data", "night")
    assert not selects_on_test("my_data", "night/validation")
    given = splits("ltcc")
    query = given["query"].take(np.isin(given["query"].labels["camera"], (1, 2)))
    gallery = given["gallery"].take(given["gallery"].labels["camera"] == 3)
    results = evaluate_dataset("my_data", given)
    assert results["night"].figures() == pytest.approx(figures(query, gallery, rules.NOTHING))


def test_a_config_may_ask_for_another_selection():
    assert selection_protocol("prcc", asked="same_clothes/all") == "same_clothes/all"
    with pytest.raises(
        UsageError, match="evaluate.select_by: ltcc has no protocol 'night' here; choose"
    ):
        selection_protocol("ltcc", ["standard"], asked="night")
    for table in ([], [Protocol("a"), Protocol("a")]):
        with pytest.raises(UsageError, match="each with a name of its own"):
            Protocols(tuple(table))
    with pytest.raises(UsageError, match="selection 'b' is no protocol; choose from a"):
        Protocols((Protocol("a"),), "b")


def test_parts_are_joined_query_by_query():
    given = splits("regdb")
    given["query"] = given["query"].take(np.arange(20))
    results = evaluate_dataset("regdb", given, bootstrap=50)
    there, back, both = results.values()
    assert (there.queries + there.skipped, back.queries + back.skipped) == (20, 60)
    assert both.queries == there.queries + back.queries
    for metric, value in both.figures().items():
        total = getattr(there, metric) * there.queries + getattr(back, metric) * back.queries
        assert value == pytest.approx(total / both.queries)


def test_llcm_drops_what_the_querys_camera_saw_of_its_person():
    """Against a loop over queries as the field's code has it, with that code's draws."""
    given = splits("llcm")
    query, gallery = given["query"], given["gallery"]
    kinds = list(zip(identities(gallery), gallery.labels["camera"], strict=True))
    found = []
    for trial in range(10):
        generator = random.Random(trial)
        rows = [
            generator.choice([row for row, each in enumerate(kinds) if each == kind])
            for kind in sorted(set(kinds))
        ]
        for feature, kind in zip(
            query.features, zip(identities(query), query.labels["camera"], strict=True), strict=True
        ):
            distances = np.square(gallery.features[rows] - feature).sum(axis=1)
            seen = [kinds[rows[i]] for i in np.argsort(distances) if kinds[rows[i]] != kind]
            persons = [person for person, _ in seen]
            places = [i for i, person in enumerate(persons, 1) if person == kind[0]]
            place = list(dict.fromkeys(persons)).index(kind[0])
            precision = np.mean([n / place for n, place in enumerate(places, 1)])
            found.append((place < 1, place < 5, precision))
    result = evaluate_dataset("llcm", given)["visible_to_infrared"]
    assert (result.rank1, result.rank5, result.mAP) == pytest.approx(np.mean(found, axis=0))


@pytest.mark.parametrize("shots", [1, 2, 10])
def test_draws_per_identity_and_camera(shots):
    gallery = splits("ltcc")["gallery"]
    kind = 10 * identities(gallery) + gallery.labels["camera"]
    gallery = dataclasses.replace(gallery, names=map(str, range(60)))
    draw = Draw(("identity", "camera"), images=shots)
    trials = [drawn_gallery(gallery, draw, seed=3, trial=trial) for trial in range(30)]
    for drawn in trials:
        rows = [int(name) for name in drawn.names]
        assert rows == sorted(set(rows))
        kinds, counts = np.unique(kind[rows], return_counts=True)
        expected, there = np.unique(kind, return_counts=True)
        np.testing.assert_array_equal(kinds, expected)
        np.testing.assert_array_equal(counts, np.minimum(there, shots))
    again = drawn_gallery(gallery, draw, seed=3, trial=0)
    assert again.names == trials[0].names
    if shots < 3:  # Every image has its turn.
        assert len({name for drawn in trials for name in drawn.names}) == 60


def test_each_camera_alone():
    given = splits("prcc")
    results = by_camera(evaluate_dataset("prcc", given, only=["same_clothes/all"]))
    assert list(results) == ["same_clothes/all"] + [
        f"same_clothes/all/camera_{c}" for c in range(1, 5)
    ]
    for camera in range(1, 5):
        query = given["query_same"].take(given["query_same"].labels["camera"] == camera)
        expected = figures(query, given["gallery"], rules.NOTHING)
        assert results[f"same_clothes/all/camera_{camera}"].figures() == pytest.approx(expected)
    whole = evaluate_dataset("prcc", given, only=["same_clothes/single_shot"])
    drawn = by_camera(whole)
    parts = [result for name, result in drawn.items() if "camera" in name]
    assert all(part.draws == 10 and part.std.keys() == set(METRICS) for part in parts)
    weighted = sum(part.mAP * part.queries for part in parts)
    assert weighted / 60 == pytest.approx(whole["same_clothes/single_shot"].mAP)


def test_features_compared_by_their_products_are_not_reranked():
    given = {n: dataclasses.replace(s, similarity="dot") for n, s in splits("ltcc").items()}
    assert evaluate_dataset("ltcc", given)
    with pytest.raises(UsageError, match="re-ranking needs Euclidean distances"):
        evaluate_dataset("ltcc", given, reranking=Reranking())
