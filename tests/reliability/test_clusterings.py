"""Clusterings that find nobody, everybody or one person: training goes on, and says so."""

import json
import math
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sicl_jax.clustering.oddities import clustering_warnings

NOBODY = "no two images were put into one cluster"
COLLAPSE = "clusters fell from 48 to 1 within one epoch"


def giant(size: int) -> str:
    return f"one cluster holds {size} of 96 images"


def epochs(workdir: pathlib.Path) -> list[dict]:
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "epoch"]


def assert_told(ended, workdir: pathlib.Path, *wanted: list[str]) -> None:
    """Each epoch's losses are finite; its warnings are said, and in `metrics.jsonl`."""
    assert ended.code == 0, ended.errors
    assert ended.errors == ""
    lines = epochs(workdir)
    assert len(lines) == len(wanted)
    said = [line for line in ended.output.splitlines() if line.startswith("warning: ")]
    assert len(said) == sum(map(len, wanted))
    for line, parts in zip(lines, wanted, strict=True):
        assert all(math.isfinite(v) for v in line.values() if isinstance(v, float))
        warnings = line.get("warnings", [])
        assert len(warnings) == len(parts)
        for warning, part in zip(warnings, parts, strict=True):
            assert part in warning
            assert f"warning: epoch {line['epoch']}: {warning}" in said


def test_every_degenerate_clustering(trainer, tmp_path):
    """The later ones with neighbours on, of which there are none or fewer than asked for."""
    run = tmp_path / "run"
    found = ["pairs", "one", "none", "all but one", "one", "none"]
    ended = trainer.train(run, clusterings=found, settings={"epochs": "6", "evaluate.every": "6"})
    assert [line["neighbors"] for line in epochs(run)] == [0, 0, 1, 2, 3, 4]
    assert_told(ended, run, [], [giant(96), COLLAPSE], [NOBODY], [giant(95)], [giant(96)], [NOBODY])


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"eps": "0.001", "eps_gap": "0.0", "min_samples": "90"}, NOBODY),
        ({"eps": "0.999", "min_samples": "1", "k1": "96", "refine": "False"}, giant(96)),
    ],
)
def test_settings_that_bring_them_about(trainer, tmp_path, settings, wanted):
    changes = {f"clustering.{name}": value for name, value in settings.items()}
    ended = trainer.train(tmp_path / "run", settings={"epochs": "1", **changes})
    assert_told(ended, tmp_path / "run", [wanted])


# ---- what the warnings obey ----------------------------------------------------------------


@st.composite
def figures(draw, num_images: int):
    """What a clustering of so many images may tell."""
    sizes, left = [], num_images
    while left and len(sizes) < 40:
        sizes.append(draw(st.integers(1, left)))
        left -= sizes[-1]
    sizes += [1] * left
    return {
        "clusters": len(sizes),
        "pseudo_identities": len(sizes),
        "unclustered": sizes.count(1),
        "largest_cluster": max(sizes),
        "ties": draw(st.integers(0, 12)),
    }


@given(data=st.data(), num_images=st.integers(1, 300))
def test_warnings_say_what_is_the_case(data, num_images):
    now, before = (data.draw(figures(num_images)) for _ in range(2))
    warnings = clustering_warnings(now, before, num_images)
    groups, earlier = (each["pseudo_identities"] - each["unclustered"] for each in (now, before))
    nobody = groups == 0
    is_giant = not nobody and now["largest_cluster"] > num_images / 2
    has_collapsed = not nobody and groups < earlier / 10
    is_tied = not nobody and now["ties"] > 5
    kinds = ("no two images", "one cluster holds", "clusters fell", "the distances of")
    cases = (nobody, is_giant, has_collapsed, is_tied)
    for kind, holds in zip(kinds, cases, strict=True):
        assert holds == any(warning.startswith(kind) for warning in warnings)
    assert len(warnings) == sum(cases)
    assert all(warning.isprintable() and "--config." in warning for warning in warnings)
    assert clustering_warnings(now, {}, num_images) == clustering_warnings(now, now, num_images)
