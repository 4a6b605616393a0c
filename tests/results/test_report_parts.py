"""The parts of a report: ticks, charts, the log, which queries are shown, marks, clusters, map."""

import dataclasses
import json
import re
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sicl_jax import config as configs
from sicl_jax.data.dataset import Split
from sicl_jax.errors import UserError
from sicl_jax.evaluation import FeatureSet, evaluate_dataset
from sicl_jax.evaluation.agreement import agreement
from sicl_jax.evaluation.galleries import ranked_galleries
from sicl_jax.evaluation.ranking import Ranking
from sicl_jax.report import document, galleries, run_report
from sicl_jax.report.charts import Curve, bounds, line_chart, ticks
from sicl_jax.report.clusters import clusters_section
from sicl_jax.report.feature_map import plane
from sicl_jax.report.galleries import galleries_section
from sicl_jax.report.gallery_image import ranked_gallery_picture
from sicl_jax.report.marks import COLORS, Mark, marks
from sicl_jax.runs import metrics


def side(identities, clothes, features=None) -> tuple[Split, FeatureSet]:
    """A split of grey images and its features."""
    identities = np.asarray(identities, np.int32)
    count = len(identities)
    names = tuple(f"{row}_<b>&.jpg" for row in range(count))
    images = np.full((count, 64, 32, 3), 128, np.uint8)
    labels = {"identity": identities, "clothes": np.asarray(clothes, np.int32)}
    features = np.eye(count, dtype=np.float32) if features is None else features
    split = Split({"image": images, "mask": images[..., 0]}, labels, names)
    return split, FeatureSet(features, labels, names)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(3, 9))
def test_ticks_are_round_few_and_within(low, span, most):
    found = ticks(low, low + span, most)
    assert 1 <= len(found) <= most
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)
    steps = np.diff(found)
    if len(steps):
        mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
        assert min(abs(mantissa - nice) for nice in (1, 2, 2.5, 5, 10)) < 1e-3
        np.testing.assert_allclose(steps, steps[0], rtol=1e-4)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_bounds_hold_the_values(values):
    low, high = bounds(values)
    assert low <= min(values) and max(values) <= high and low < high


def test_a_chart_puts_points_where_they_belong():
    html = line_chart("Loss", [Curve("a", [(1, 0.0), (3, 10.0)]), Curve("b", [(2, 5.0)])])
    (x0, y0), (x1, y1), (x2, y2) = (
        (float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', html)
    )
    assert x0 < x2 < x1 and y1 < y2 < y0  # Down is large in SVG.
    assert abs(x2 - (x0 + x1) / 2) < 0.1 and abs(y2 - (y0 + y1) / 2) < 0.1
    assert 'aria-label="Loss: a from 0 to 10; b from 5 to 5"' in html
    assert "<td>2</td><td></td><td>5</td>" in html
    assert line_chart("Nothing", [Curve("a", [])]) == ""


def test_the_log_is_read_while_it_is_written(run_copy):
    file = run_copy / "metrics.jsonl"
    whole = metrics.read_log(run_copy)
    assert whole.is_finished and [epoch for epoch, _ in whole.curve("loss")] == [1, 2]
    assert len(whole.test_curve("cloth_changing/all", "mAP")) == 2
    lines = file.read_bytes().splitlines(keepends=True)
    last = max(n for n, line in enumerate(lines) if json.loads(line)["kind"] == "epoch")
    file.write_bytes(b"".join(lines[:last]) + lines[last][:40])
    cut = metrics.read_log(run_copy)
    assert not cut.is_finished and cut.epochs_done == 1
    file.write_bytes(b"{}\n" + b"".join(lines))
    with pytest.raises(UserError, match="line 1 is damaged"):
        metrics.read_log(run_copy)
    file.unlink()
    assert metrics.read_log(run_copy).epochs_done == 0


def test_queries_are_chosen_from_both_ends_and_many_people():
    precision = np.array([0.9, 0.8, 0.7, 0.6, 0.2, 0.1, 0.0, 0.0])
    first = np.array([1, 1, 1, 2, 3, 9, 0, 20])  # Query 6 is skipped.
    ranking = Ranking(first, precision, precision)
    people = np.array([1, 1, 2, 2, 1, 1, 3, 2])
    assert galleries.best_queries(ranking, people, 2).tolist() == [0, 2]
    assert galleries.best_queries(ranking, people, 3).tolist() == [0, 1, 2]
    assert galleries.worst_queries(ranking, people, 2).tolist() == [7, 5]
    assert galleries.cross_section(ranking, 3).tolist() == [0, 3, 7]
    assert galleries.cross_section(ranking, 99).tolist() == [0, 1, 2, 3, 4, 5, 7]


@pytest.mark.parametrize(
    ("asked", "chosen", "epoch"),
    [("", "validation, on validation images", 2), ("standard", "standard, on the test images", 1)],
)
def test_the_summary_says_what_chose_the_checkpoint(tmp_path, asked, chosen, epoch):
    config = configs.base("sicl")
    config.data.name, config.evaluate.select_by = "deepchange", asked
    figures = [{"standard": 0.5, "validation": 0.2}, {"standard": 0.4, "validation": 0.3}]
    tests = [
        {"epoch": number, **{name: {"mAP": mAP, "rank1": mAP} for name, mAP in each.items()}}
        for number, each in enumerate(figures, start=1)
    ]
    facts = run_report._best(metrics.RunLog(tmp_path, config, {}, [], tests))
    assert facts["checkpoint chosen by"] == f"mAP of {chosen}"
    assert facts["best mAP"] == f"{figures[epoch - 1]['standard']:.1%} (epoch {epoch})"


def test_marks_say_who_and_in_what():
    query, gallery = side([1, 1], [10, -1]), side([1, 1, 2, -1], [10, 11, 20, -1])
    close = np.array([[4, 3, 2, 1]] * 2, np.float32)
    features = (FeatureSet(np.eye(4, dtype=np.float32)[:1].repeat(2, 0), query[1].labels),
                FeatureSet(np.diag(close[0]) / 8, gallery[1].labels))  # fmt: skip
    ranked = ranked_galleries(*features, [0, 1], top=5)
    assert ranked.rows[0].tolist()[-1] == -1
    shown = dict(zip(ranked.rows[0].tolist(), marks(*features, ranked, [0, 1])[0], strict=True))
    assert shown == {
        0: Mark.SAME_CLOTHES, 1: Mark.OTHER_CLOTHES, 2: Mark.OTHER_PERSON, 3: Mark.UNKNOWN,
        -1: None,
    }  # fmt: skip
    unknown = dict(zip(ranked.rows[1].tolist(), marks(*features, ranked, [0, 1])[1], strict=True))
    assert unknown[0] is unknown[1] is Mark.SAME_PERSON


def test_the_picture_of_galleries_has_frames_and_a_legend():
    query, gallery = side([1], [10]), side([1, 2], [11, 20])
    features = (query[1].features @ np.ones((1, 2), np.float32) * [[1, 0]], gallery[1].features)
    sets = [FeatureSet(f, s[1].labels) for f, s in zip(features, (query, gallery), strict=True)]
    ranked = ranked_galleries(*sets, [0], top=2)
    picture = ranked_gallery_picture(query[0], gallery[0], ranked, [0], title="Test")
    colors = {color for _, color in picture.getcolors(1 << 24)}
    for mark in (Mark.OTHER_CLOTHES, Mark.OTHER_PERSON):
        assert tuple(bytes.fromhex(COLORS[mark][1:])) in colors
    taller = ranked_gallery_picture(
        query[0], gallery[0], ranked, [0], title="Test", captions=["a caption"]
    )
    assert taller.height > picture.height and taller.width == picture.width


def test_agreement_against_hand_computed_values():
    people = np.array([0, 0, 0, 1, 1, 1])
    assert agreement(people + 5, people) == {"ari": 1.0, "nmi": 1.0, "purity": 1.0}
    assert agreement(np.arange(6), people)["ari"] == 0 and "purity" not in agreement(
        np.arange(6), people
    )
    labels = np.array([0, 0, 0, 0, 1, 2])  # One of four is odd; two are alone.
    found = agreement(labels, people)
    assert found["purity"] == 0.75
    # Pairs together in both: 3; sums of pairs: 6 and 6; of 15 in all.
    np.testing.assert_allclose(found["ari"], (3 - 6 * 6 / 15) / (6 - 6 * 6 / 15))
    assert agreement(labels, np.full(6, -1)) == {}
    assert agreement(labels, np.array([0, 0, 0, -1, 1, 1]))["purity"] == 1.0


def test_clusters_name_their_commonest_person_and_the_odd_ones():
    split, _ = side([0, 0, 1, 1, 1, -1], [0, 1, 2, 2, 2, -1])
    html = clusters_section(split, np.array([0, 0, 0, 1, 1, 2]), epoch=3)
    assert html.count("<article") == 2
    assert "3 images, 2 people, purity 67%, 2 outfits of person 0" in html
    assert html.count('class="odd"') == 1 and "images alone: 1 of 6" in html
    assert "<b>" not in html.replace("0_&lt;b&gt;", "")  # Names are text, never HTML.


def test_the_map_keeps_apart_what_is_apart():
    rng = np.random.default_rng(0)
    group = np.repeat(np.eye(3, 16), 20, axis=0).astype(np.float32)
    features = group + 0.02 * rng.normal(size=group.shape).astype(np.float32)
    places = plane(features)
    centres = places.reshape(3, 20, 2).mean(axis=1)
    spread = np.linalg.norm(places.reshape(3, 20, 2) - centres[:, None], axis=2).max()
    gaps = [np.linalg.norm(centres[a] - centres[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert spread < min(gaps) / 2
    assert (places >= 0).all() and np.isfinite(places).all()
    assert np.isfinite(plane(features[:4])).all()


def test_html_is_escaped_and_pictures_are_in_it():
    name = 'x" onload="alert(1)<script>'
    html = document.picture(np.zeros((8, 4), np.uint8), name, title=name)
    assert "<script>" not in html and 'onload="' not in html
    page = document.document(name, name, document.note(name), parts=[("a", name)])
    assert page.count("<script>") == 2  # Its own: the theme and the tooltips.
    large = document.picture(Image.new("RGB", (880, 1760)), "", width=88)
    assert 'width="88" height="176"' in large


def test_galleries_of_a_protocol_with_some_cameras_alone():
    sides = {}
    for name in ("query", "gallery"):
        people, cameras = np.repeat([0, 1, 2], 4), np.tile([1, 2, 3, 4], 3)
        split, features = side(people, np.arange(12))
        rows = np.eye(3, dtype=np.float32)[people]
        labels = {**features.labels, "camera": cameras}
        split = dataclasses.replace(split, labels=labels)
        names = tuple(f"{name}_camera{camera}_{row}.jpg" for row, camera in enumerate(cameras))
        split = dataclasses.replace(split, names=names)
        sides[name] = (split, FeatureSet(rows, labels, names))
    dataset = types.SimpleNamespace(name="vc_clothes", split=lambda name: sides[name][0])
    features = {name: of_name[1] for name, of_name in sides.items()}
    results = evaluate_dataset("vc_clothes", features)
    html = galleries_section(dataset, features, results, queries=2)
    named = set(re.findall(r"camera(\d)", html))
    assert named == {"3", "4"} and html.count('class="ranked"') == 4
    # The other camera's image of the same person is found first, and its own is dropped.
    assert html.count("rank 1: same person, other clothes") == 4
