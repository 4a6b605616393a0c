"""Confidence intervals, tables and ranked galleries."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
import rich.console

from sicl_jax.evaluation import (
    METRICS,
    FeatureSet,
    by_camera,
    evaluate_dataset,
    protocols,
    rules,
    with_intervals,
)
from sicl_jax.evaluation.distances import distance_rows
from sicl_jax.evaluation.galleries import ranked_galleries
from sicl_jax.evaluation.metrics import average, summarize
from sicl_jax.evaluation.ranking import Ranking
from sicl_jax.evaluation.tables import csv_text, describe, json_text, latex_text, text_table


def found_at(ranks):
    """Results of queries with one true match each, at these ranks; 0 for skipped ones."""
    ranks = np.asarray(ranks)
    precision = np.divide(1, ranks, out=np.zeros(len(ranks)), where=ranks > 0)
    return summarize(Ranking(ranks, precision, precision))


def test_interval_of_a_share():
    """Half of 400 queries hit: the bootstrap's share is binomial, of deviation 0.025."""
    result = with_intervals(found_at([1, 30] * 200 + [0] * 50), 4000, seed=1)
    low, high = result.interval["rank1"]
    assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.005)
    assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.005)
    low, high = with_intervals(result, 4000, level=0.5).interval["rank1"]
    assert high - low == pytest.approx(2 * 0.674 * 0.025, abs=0.006)


def test_interval_of_what_never_varies():
    result = with_intervals(found_at([1] * 30), 50)
    assert set(result.interval.values()) == {(1.0, 1.0)}


def test_interval_is_decided_by_the_seed():
    result = found_at(np.arange(1, 40))
    intervals = [with_intervals(result, 100, seed=seed).interval for seed in (0, 0, 1)]
    assert intervals[0] == intervals[1] != intervals[2]


def test_interval_over_draws_resamples_queries_not_draws():
    """Two draws in which each query is found once: its mean over them never varies."""
    draws = [found_at([1, 2, 1, 2]), found_at([2, 1, 2, 1])]
    result = with_intervals(average(draws), 100)
    assert result.interval["mAP"] == (0.75, 0.75)
    assert result.rank1 == 0.5 and result.std["rank1"] == 0


def some_results():
    rng = np.random.default_rng(0)

    def images(count):
        identities = rng.integers(4, size=count)
        names = ("camera", "clothes", "tracklet")
        labels = {name: rng.integers(3, size=count) for name in names}
        return FeatureSet(rng.normal(size=(count, 4)), {"identity": identities, **labels})

    splits = {"query_changed": images(9), "query_same": images(9), "gallery": images(30)}
    return evaluate_dataset("prcc", splits, bootstrap=20)


def test_json():
    results = some_results()
    read = json.loads(json_text(results, dataset="prcc", step=3))
    assert (read["dataset"], read["step"]) == ("prcc", 3)
    assert list(read["protocols"]) == list(results)
    for name, result in results.items():
        assert read["protocols"][name] == result.as_dict()
    drawn = read["protocols"]["cloth_changing/single_shot"]
    assert drawn["draws"] == 10 and drawn["std"].keys() == set(METRICS)
    assert len(drawn["interval"]["mAP"]) == 2


def test_csv():
    results = some_results()
    lines = list(csv.DictReader(io.StringIO(csv_text(results))))
    assert [line["protocol"] for line in lines] == list(results)
    for line, result in zip(lines, results.values(), strict=True):
        for metric, value in result.figures().items():
            assert float(line[metric]) == value
            assert float(line[f"{metric}_low"]) == result.interval[metric][0]
            deviation = "" if result.std is None else str(result.std[metric])
            assert line[f"{metric}_std"] == deviation
        assert int(line["queries"]) == result.queries


def printed(results, title=None):
    """The lines of the text table as an 80-column terminal shows it, without spaces' number."""
    console = rich.console.Console(width=80, file=io.StringIO())
    console.print(text_table(results, title))
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_text_and_latex_show_the_same_percent():
    results = {"standard": found_at([1, 1, 2, 50]), "standard/released": found_at([1, 0])}
    lines = printed(results, "a title")
    assert lines[0] == "a title"
    assert "protocol R-1 R-5 R-10 R-20 mAP mINP queries skipped" in lines
    assert "standard 50.0 75.0 75.0 75.0 63.0 63.0 4 0" in lines
    assert "released 100.0 100.0 100.0 100.0 100.0 100.0 1 1" in lines
    latex = latex_text(results | {"same_clothes": found_at([1])})
    assert r"standard & 50.0 & 75.0 & 75.0 & 75.0 & 63.0 & 63.0 \\" in latex
    assert r"same\_clothes & 100.0" in latex
    assert latex.count(r"\\") == 4


def test_deviations_and_intervals_are_shown():
    drawn = with_intervals(average([found_at([1, 2]), found_at([2, 2])]), 20)
    lines = printed({"same_clothes/single_shot": drawn})
    at = lines.index("same_clothes")
    assert lines[at + 1].startswith("single_shot 25.0 100.0 100.0 100.0 ")
    assert lines[at + 2].startswith("± over 2 draws 25.0 0.0 0.0 0.0")
    assert lines[at + 3].startswith("bootstrap, low 0.0 100.0")
    assert lines[at + 4].startswith("bootstrap, high 50.0 100.0")
    assert r"25.0\,$\pm$\,25.0 {\scriptsize[0.0, 50.0]}" in latex_text({"drawn": drawn})


def test_every_table_says_what_was_not_the_plain_test():
    plain = describe("prcc", 3, "rgb", flip=False, reranked=False)
    assert plain == "prcc, epoch 3, rgb features"
    title = describe("my_data", None, "fusion", flip=True, reranked=True, draws=20)
    assert title == (
        "my_data, fusion features, averaged with the mirror image's, re-ranked, 20 draws"
    )
    results = {"standard": found_at([1])}
    assert r"\multicolumn{7}{l}{my\_data, fusion features" in latex_text(results, title)
    lines = csv_text(results, flip=True, reranked=False).splitlines()
    assert lines[0].endswith("draws,flip,reranked") and lines[1].endswith("1,True,False")


def test_cameras_stand_below_their_protocol():
    cameras = np.array([3, 3, 7, -1, 8])
    drawn = {"same_clothes/all": summarize(found_at([1, 2, 4, 1, 0]).rankings[0], cameras)}
    results = by_camera(drawn | {"standard": drawn["same_clothes/all"]})
    assert list(results)[:3] == [f"same_clothes/all{c}" for c in ("", "/camera_3", "/camera_7")]
    lines = printed(results)
    at = lines.index("same_clothes")
    assert lines[at + 1].startswith("all 50.0 100.0")
    assert lines[at + 2] == "camera 3 50.0 100.0 100.0 100.0 75.0 75.0 2 0"
    assert lines[at + 3].startswith("camera 7 0.0 100.0")
    assert lines[at + 4].startswith("standard 50.0")
    assert lines[at + 5].startswith("camera 3 50.0")
    assert r"same\_clothes/all/camera\_7" in latex_text(results)


@pytest.mark.parametrize("dataset", ["prcc", "ltcc", "vc_clothes", "deepchange", "sysu_mm01"])
def test_no_name_or_number_is_cut_in_80_columns(dataset):
    many = dataclasses.replace(found_at([1] * 20), queries=123456, skipped=12345)
    many = with_intervals(average([many] * 10), 5)
    lines = printed({protocol.name: many for protocol in protocols(dataset)})
    text = "\n".join(lines)
    assert "…" not in text
    for protocol in protocols(dataset):
        assert f"{protocol.name.partition('/')[2] or protocol.name} 100.0" in text


def test_ranked_galleries():
    rng = np.random.default_rng(0)
    query, gallery = (
        FeatureSet(
            rng.integers(-2, 3, size=(count, 2)),
            {
                "identity": rng.integers(-1, 3, size=count),
                "camera": rng.integers(-1, 2, size=count),
                "clothes": rng.integers(-1, 2, size=count),
            },
        )
        for count in (6, 12)
    )
    distances = distance_rows(query, gallery)(0, 6)
    found = ranked_galleries(query, gallery, np.array([4, 1]), rule=rules.STANDARD, top=15)
    for place, q in enumerate([4, 1]):
        matched = {
            name: (gallery.labels[name] == query.labels[name][q]) & (query.labels[name][q] != -1)
            for name in ("identity", "camera", "clothes")
        }
        same = matched["identity"]
        dropped = same & matched["camera"]
        order = [g for g in np.argsort(distances[q], kind="stable") if not dropped[g]]
        count = len(order)
        assert found.rows[place, :count].tolist() == order
        assert (found.rows[place, count:] == -1).all()
        assert not found.matches[place, count:].any()
        assert np.isinf(found.distances[place, count:]).all()
        np.testing.assert_array_equal(found.distances[place, :count], distances[q][order])
        np.testing.assert_array_equal(found.matches[place, :count], same[order])
        clothes = same & matched["clothes"]
        np.testing.assert_array_equal(found.same_clothes[place, :count], clothes[order])
