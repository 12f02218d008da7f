"""Counts, the paper's equations and the ROC curve, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from covid_mm.errors import DataError
from covid_mm.evaluation import ConfusionMatrix, count_confusion, roc_auc, roc_curve

LABELS = [1, 1, 1, 0, 0, 0, 0]
SCORES = [0.9, 0.5, 0.2, 0.8, 0.49, 0.1, 0.0]


def test_counts_by_hand():
    counts = count_confusion(SCORES, LABELS)
    assert counts == ConfusionMatrix(true_positive=2, true_negative=3, false_positive=1, false_negative=1)
    assert (counts.positive, counts.negative, counts.total, counts.correct) == (3, 4, 7, 5)


def test_a_probability_at_the_threshold_is_positive():
    assert count_confusion([0.5, 0.5], [1, 0]).true_positive == 1
    assert count_confusion([0.5, 0.5], [1, 0], threshold=0.51).true_negative == 1


def test_equations_one_to_three():
    counts = count_confusion(SCORES, LABELS)
    assert counts.accuracy == pytest.approx(5 / 7)
    assert counts.sensitivity == pytest.approx(2 / 3)
    assert counts.specificity == pytest.approx(3 / 4)


def test_rates_without_images_are_errors():
    only_normal = count_confusion([0.1, 0.9], [0, 0])
    assert only_normal.specificity == 0.5
    with pytest.raises(DataError, match="sensitivity needs a positive image"):
        _ = only_normal.sensitivity
    with pytest.raises(DataError, match="specificity needs a normal image"):
        _ = count_confusion([0.1], [1]).specificity


def test_roc_curve_by_hand():
    curve = roc_curve([0.8, 0.4, 0.6, 0.2], [1, 1, 0, 0])
    assert curve.thresholds.tolist() == [np.inf, 0.8, 0.6, 0.4, 0.2]
    assert curve.true_positive_rate.tolist() == [0, 0.5, 0.5, 1, 1]
    assert curve.false_positive_rate.tolist() == [0, 0, 0.5, 0.5, 1]
    assert roc_auc([0.8, 0.4, 0.6, 0.2], [1, 1, 0, 0]) == 0.75  # 3 of the 4 couples in order


def test_a_tie_counts_one_half():
    # couples (positive, normal): .7>.3, .7>.1, .3=.3, .3>.1 -> 3.5 of 4
    assert roc_auc([0.7, 0.3, 0.3, 0.1], [1, 1, 0, 0]) == pytest.approx(3.5 / 4)
    curve = roc_curve([0.7, 0.3, 0.3, 0.1], [1, 1, 0, 0])
    assert curve.thresholds.tolist() == [np.inf, 0.7, 0.3, 0.1]
    assert roc_auc([0.5] * 6, [0, 1, 0, 1, 1, 1]) == 0.5


@pytest.mark.parametrize(("scores", "area"), [([0.1, 0.2, 0.8, 0.9], 1.0), ([0.9, 0.8, 0.2, 0.1], 0.0)])
def test_perfect_and_inverted_order(scores, area):
    assert roc_auc(scores, [0, 0, 1, 1]) == area


def test_auc_equals_the_share_of_ordered_couples():
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, 200)
    scores = np.round(generator.random(200) * 0.5 + labels * 0.3, 1)  # many ties
    positive, normal = scores[labels == 1][:, None], scores[labels == 0][None]
    expected = np.mean((positive > normal) + 0.5 * (positive == normal))
    assert roc_auc(scores, labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.5, np.nan], [0, 1], "1 of 2 probabilities are NaN"),
        ([0.5, np.inf], [0, 1], "NaN or infinite"),
        ([0.5, 1.2], [0, 1], r"reach from 0.5 to 1.2"),
        ([0.5, -0.1], [0, 1], "softmax, not the logits"),
        ([[0.5, 0.5]], [0], r"probabilities\[:, 1\]"),
        ([0.5, 0.5], [0], "2 images came with labels"),
        ([], [], "at least one image"),
        ([0.5, 0.5], [0, 2], "Labels must be 0"),
        ([0.5, 0.5], [0, np.nan], "Labels must be 0"),
    ],
)
def test_bad_input_is_refused(scores, labels, message):
    with pytest.raises(DataError, match=message):
        count_confusion(scores, labels)
    with pytest.raises(DataError, match=message):
        roc_auc(scores, labels)


def test_roc_needs_both_classes():
    with pytest.raises(DataError, match="0 are positive and 2 normal"):
        roc_curve([0.1, 0.9], [0, 0])


def test_inputs_are_not_changed():
    scores, labels = np.array(SCORES), np.array(LABELS)
    scores.setflags(write=False)
    labels.setflags(write=False)
    assert roc_auc(scores, labels) == pytest.approx(roc_auc(SCORES, LABELS))
