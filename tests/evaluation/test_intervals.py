"""Intervals against closed forms, an independent implementation, and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from covid_mm.errors import DataError, UsageError
from covid_mm.evaluation import Proportion, auc_interval, estimate_auc, roc_auc, wilson_interval
from covid_mm.evaluation.intervals import difference_interval

Z2 = 1.959963984540054**2  # square of the 97.5 % normal quantile


def test_wilson_at_the_ends():
    # with no failure the lower bound is n / (n + z^2); mirrored with no success
    assert wilson_interval(750, 750) == (pytest.approx(750 / (750 + Z2), abs=1e-12), 1.0)
    assert wilson_interval(750, 750)[0] == pytest.approx(0.994904, abs=1e-6)
    assert wilson_interval(0, 10) == (0.0, pytest.approx(Z2 / (10 + Z2), abs=1e-12))
    assert wilson_interval(0, 10)[1] == pytest.approx(0.277533, abs=1e-6)


def test_wilson_of_the_papers_best_result():
    low, high = wilson_interval(749, 750)
    assert low == pytest.approx(0.99248, abs=1e-5)
    assert high == pytest.approx(0.99976, abs=1e-5)


@pytest.mark.parametrize(("successes", "total"), [(1, 2), (81, 263), (15, 148), (29, 29), (0, 1), (743, 750)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_agrees_with_scipy(successes, total, confidence):
    expected = binomtest(successes, total).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, total, confidence) == pytest.approx((expected.low, expected.high))


def test_a_differences_interval_is_newcombes():
    # his example: 56/70 against 48/80 (Statistics in Medicine 17, 873, table II, method 10)
    low, high = difference_interval(Proportion.of(56, 70), Proportion.of(48, 80))
    assert (low, high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))
    assert difference_interval(Proportion.of(48, 80), Proportion.of(56, 70)) == (-high, -low)


def test_proportion_carries_its_counts():
    share = Proportion.of(3, 4)
    assert (share.successes, share.total, share.value) == (3, 4, 0.75)
    assert (share.low, share.high) == wilson_interval(3, 4)
    assert share.to_dict() == {
        "successes": 3,
        "total": 4,
        "value": 0.75,
        "low": share.low,
        "high": share.high,
        "confidence": 0.95,
    }


@pytest.mark.parametrize(("successes", "total"), [(1, 0), (0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes, total):
    with pytest.raises(DataError, match="successes <= total"):
        wilson_interval(successes, total)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, float("nan")])
def test_impossible_confidence_is_refused(confidence):
    with pytest.raises(UsageError, match="confidence"):
        wilson_interval(1, 2, confidence)
    with pytest.raises(UsageError, match="confidence"):
        auc_interval(0.9, 10, 10, confidence)


def standard_error(area: float, positive: int, negative: int) -> float:
    rest = (positive + negative) / 2 - 1
    spread = 1 + rest * (1 - area) / (2 - area) + rest * area / (1 + area)
    return math.sqrt(area * (1 - area) * spread / (positive * negative))


@pytest.mark.parametrize("area", [0.5, 0.73, 0.95, 0.9995])
def test_auc_bounds_are_z_standard_errors_from_the_area(area):
    low, high = auc_interval(area, 391, 359)
    z = math.sqrt(Z2)
    assert (area - low) / standard_error(low, 391, 359) == pytest.approx(z, rel=1e-6)
    assert (high - area) / standard_error(high, 391, 359) == pytest.approx(z, rel=1e-6)


def test_auc_interval_keeps_a_width_at_one_and_zero():
    low, high = auc_interval(1.0, 391, 359)
    assert high == 1.0
    assert 0.98 < low < 0.999
    assert auc_interval(0.0, 391, 359) == pytest.approx((0.0, 1 - low), abs=1e-9)


def test_more_images_narrow_the_auc_interval():
    widths = [np.diff(auc_interval(0.95, n, n))[0] for n in (20, 80, 320, 1280)]
    assert np.all(np.diff(widths) < 0)
    assert widths[2] / widths[3] == pytest.approx(2.0, rel=0.1)  # like 1 / sqrt(n)


def test_auc_interval_covers_the_true_area():
    # two normal distributions a step apart: the true area is Phi(step / sqrt 2)
    generator = np.random.default_rng(0)
    step, runs, covered = 2.0, 400, 0
    truth = 0.5 * (1 + math.erf(step / 2))
    labels = np.repeat([0, 1], [40, 60])
    for _ in range(runs):
        scores = 1 / (1 + np.exp(-(generator.standard_normal(100) + step * labels)))
        low, high = auc_interval(roc_auc(scores, labels), 60, 40)
        covered += low <= truth <= high
    assert 0.92 <= covered / runs <= 0.98


def test_estimate_auc_takes_the_counts_from_the_labels():
    scores, labels = [0.9, 0.8, 0.3, 0.6, 0.1], [1, 1, 1, 0, 0]
    estimate = estimate_auc(scores, labels)
    assert estimate.value == pytest.approx(5 / 6)
    assert (estimate.low, estimate.high) == pytest.approx(auc_interval(5 / 6, 3, 2))


@pytest.mark.parametrize(("area", "positive", "negative"), [(1.1, 5, 5), (0.5, 0, 5), (0.5, 5, 0)])
def test_impossible_areas_are_refused(area, positive, negative):
    with pytest.raises(DataError, match="AUC"):
        auc_interval(area, positive, negative)
