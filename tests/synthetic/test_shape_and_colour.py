"""Colour alone fails when clothes change, by day and under sodium lamps; the outline suffices."""

import dataclasses

import baselines
import pytest

from tfds_builders.synthetic_people.synthetic_people_dataset_builder import DAY, DEMO


@pytest.fixture(scope="module", params=[DAY, DEMO], ids=["by day", "at night"])
def figures(request):
    return baselines.table(baselines.draw_test_splits(request.param))


def test_colour_finds_people_in_the_same_clothes_in_steady_light():
    steady = dataclasses.replace(DAY, light_variation=0.5)
    rank1, mean_precision = baselines.table(baselines.draw_test_splits(steady))["query_same"][
        "colour"
    ]
    assert rank1 > 0.9
    assert mean_precision > 0.9


def test_colour_is_a_poor_guide_where_light_changes(figures):
    assert figures["query_same"]["colour"][1] < figures["query_same"]["silhouette"][1]


def test_colour_fails_when_clothes_change(figures):
    rank1, mean_precision = figures["query_changed"]["colour"]
    random_rank1, random_precision = figures["query_changed"]["chance"]
    assert rank1 < random_rank1 + 0.05
    assert mean_precision < 1.6 * random_precision


def test_silhouette_survives_a_change_of_clothes(figures):
    rank1, mean_precision = figures["query_changed"]["silhouette"]
    random_rank1, random_precision = figures["query_changed"]["chance"]
    assert rank1 > 6 * random_rank1
    assert mean_precision > 2.8 * random_precision
    assert mean_precision > 2 * figures["query_changed"]["colour"][1]


def test_clothes_hardly_change_the_outline(figures):
    assert figures["query_changed"]["silhouette"][1] > 0.6 * figures["query_same"]["silhouette"][1]


def test_bodies_are_what_the_silhouette_finds():
    alike = dataclasses.replace(DAY, body_variation=0.0, carry_probability=0.0)
    found = baselines.table(baselines.draw_test_splits(alike))["query_changed"]
    assert found["silhouette"][1] < 1.8 * found["chance"][1]
