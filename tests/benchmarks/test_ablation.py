"""The ablation's table, against SciPy's confidence intervals."""

import numpy as np
import pytest
import scipy.stats

ablation = pytest.importorskip("ablation", reason="the benchmarks are not beside the tests")


def _run(rank1, precision, **labels):
    figures = {"rank1": rank1, "mAP": precision}
    return {"before": {"rank1": 0.5, "mAP": 0.25}, "after": figures, "labels": labels}


def test_differences_are_paired_by_seed():
    full, less = [0.80, 0.90, 0.85, 0.70], [0.75, 0.86, 0.79]
    runs = {
        "full": {seed: _run(value, value / 2, purity=0.9) for seed, value in enumerate(full)},
        "rgb_only": {seed: _run(value, value / 2, purity=0.8) for seed, value in enumerate(less)},
        "paper": {},
        "untrained": {9: _run(0.1, 0.05)},
    }
    rows = [line.strip("| ").split(" | ") for line in ablation.table(runs, "full").splitlines()]
    first, second, third = rows[2:]
    assert first[:3] == ["full", "4", "50.0%, 25.0%"] and first[5:8] == ["-", "-", "90.0% +- 0.0%"]
    change = scipy.stats.ttest_rel(less, full[:3])
    low, high = change.confidence_interval(0.95)
    half = (high - low) / 2
    assert second[5:7] == [f"-5.0% +- {half:.1%}", f"-2.5% +- {half / 2:.1%}"]
    assert third[3:] == ["10.0%", "5.0%", "-", "-", "-", "-", "-", "-"]


def test_an_interval_is_students():
    values = np.array([0.1, 0.4, 0.2, 0.9, 0.3])
    mean, half = ablation.mean_and_half(values)
    low, high = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose((mean - half, mean + half), (low, high))
