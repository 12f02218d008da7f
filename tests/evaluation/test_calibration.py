"""Temperature, calibration error and threshold on cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from covid_mm.errors import DataError, UsageError
from covid_mm.evaluation import (
    brier_score,
    choose_threshold,
    count_confusion,
    expected_calibration_error,
    fit_temperature,
    softmax_with_temperature,
)


def cross_entropy(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    shares = softmax_with_temperature(logits, temperature)
    return -float(np.mean(np.log(shares[np.arange(len(labels)), labels])))


def make_logits(sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits `sharpness` times as sharp as the odds that the labels were drawn with."""
    generator = np.random.default_rng(seed)
    margin = generator.normal(0, 2, 4000)
    labels = (generator.random(4000) < 1 / (1 + np.exp(-margin))).astype(np.int64)
    return np.stack([-margin, margin], axis=1) / 2 * sharpness, labels


def test_softmax_by_hand():
    shares = softmax_with_temperature([[0.0, math.log(3.0)]])
    np.testing.assert_allclose(shares, [[0.25, 0.75]])
    np.testing.assert_allclose(softmax_with_temperature([[0.0, 2 * math.log(3.0)]], 2.0), [[0.25, 0.75]])


def test_softmax_survives_large_logits():
    np.testing.assert_array_equal(softmax_with_temperature([1e4, -1e4]), [1.0, 0.0])


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_softmax_refuses_bad_temperatures(temperature):
    with pytest.raises(UsageError, match="temperature"):
        softmax_with_temperature([[0.0, 1.0]], temperature)


def test_temperature_by_hand():
    # one margin of 4, right 3 times in 4: the best answer is 3/4, so 4 / T = log 3
    logits = np.tile([0.0, 4.0], (4, 1))
    assert fit_temperature(logits, [1, 1, 1, 0]) == pytest.approx(4 / math.log(3), rel=1e-6)


def test_temperature_undoes_known_sharpening():
    logits, labels = make_logits(sharpness=3.0)
    assert fit_temperature(logits, labels) == pytest.approx(3.0, rel=0.06)


def test_temperature_is_the_least_cross_entropy():
    logits, labels = make_logits(sharpness=2.0, seed=1)
    best = fit_temperature(logits, labels)
    least = cross_entropy(logits, labels, best)
    assert all(least <= cross_entropy(logits, labels, best * factor) for factor in (0.9, 0.99, 1.01, 1.1))


def test_temperature_never_sharpens():
    logits, labels = make_logits(sharpness=0.3)
    assert fit_temperature(logits, labels) == 1.0
    assert fit_temperature([[0.0, 9.0], [9.0, 0.0]], [1, 0]) == 1.0  # nothing wrong at all


def test_temperature_is_limited_where_the_network_is_always_wrong():
    assert fit_temperature([[0.0, 9.0], [9.0, 0.0]], [0, 1]) == 20.0


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([[0.0, np.nan]], [1], "NaN"),
        ([[0.0, np.inf]], [1], "infinity"),
        ([0.0, 1.0], [0, 1], r"\(n, 2\)"),
        ([[0.0, 1.0, 2.0]], [1], r"\(n, 2\)"),
        ([[0.0, 1.0]], [1, 0], "labels"),
        ([[0.0, 1.0]], [2], "Labels must be 0"),
        (np.zeros((0, 2)), [], "empty"),
    ],
)
def test_temperature_refuses_bad_input(logits, labels, message):
    with pytest.raises(DataError, match=message):
        fit_temperature(logits, labels)


def test_brier_by_hand():
    assert brier_score([0.8, 0.3], [1, 0]) == pytest.approx((0.04 + 0.09) / 2)


def test_calibration_error_by_hand():
    # four answers at 0.9, three right: |0.9 - 0.75|; two at 0.4 (0.6 for normal), one right: |0.6 - 0.5|
    scores, labels = [0.9] * 4 + [0.4] * 2, [1, 1, 1, 0, 0, 1]
    assert expected_calibration_error(scores, labels) == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)


def test_one_bin_compares_the_means():
    scores, labels = [1.0, 0.6, 0.2], [1, 0, 0]
    expected = abs((1.0 + 0.6 + 0.8) / 3 - 2 / 3)
    assert expected_calibration_error(scores, labels, bins=1) == pytest.approx(expected)


def test_certain_and_right_is_perfectly_calibrated():
    assert expected_calibration_error([1.0, 0.0], [1, 0]) == 0.0
    assert expected_calibration_error([1.0, 0.0], [0, 1]) == 1.0


def test_calibration_falls_with_the_fitted_temperature():
    logits, labels = make_logits(sharpness=3.0)
    before = expected_calibration_error(softmax_with_temperature(logits)[:, 1], labels)
    after = expected_calibration_error(
        softmax_with_temperature(logits, fit_temperature(logits, labels))[:, 1], labels
    )
    assert after < before / 4


def test_calibration_refuses_bad_input():
    with pytest.raises(DataError, match="NaN"):
        expected_calibration_error([np.nan], [1])
    with pytest.raises(DataError, match="NaN"):
        brier_score([np.nan], [1])
    with pytest.raises(UsageError, match="bin"):
        expected_calibration_error([0.5], [1], bins=0)


@pytest.mark.parametrize(
    ("scores", "labels", "threshold"),
    [
        ([0.1, 0.3, 0.7, 0.9], [0, 0, 1, 1], 0.5),  # 0.5 is one of the best
        ([0.1, 0.5, 0.9], [0, 1, 1], 0.5),  # a probability equal to 0.5 is positive
        ([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], 0.25),
        ([0.6, 0.7, 0.9, 1.0], [0, 0, 1, 1], 0.8),
        # (0.1, 0.2] and (0.3, 0.4] are equally good: the nearer to 0.5
        ([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1], 0.35),
        ([0.0, 1.0], [1, 0], 0.0),  # worse than chance: all positive is as good as any
        ([0.5, 0.5], [0, 1], 0.5),
    ],
)
def test_threshold_by_hand(scores, labels, threshold):
    assert choose_threshold(scores, labels) == pytest.approx(threshold)


def test_threshold_is_the_best_there_is():
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 2, 60)
    scores = np.clip(generator.normal(0.2 + 0.15 * labels, 0.1), 0, 1)
    counts = count_confusion(scores, labels, choose_threshold(scores, labels))
    grid = [count_confusion(scores, labels, step / 1000) for step in range(1001)]
    best = max(other.sensitivity + other.specificity for other in grid)
    assert counts.sensitivity + counts.specificity == pytest.approx(best)
