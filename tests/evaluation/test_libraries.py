"""What libraries measure is what the formulas say: to 1e-6, on values with ties, ends and few images."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from covid_mm.datasets.grouping import join_pairs
from covid_mm.evaluation import roc_auc, roc_curve, wilson_interval


@pytest.mark.parametrize(("successes", "total"), [(0, 1), (1, 1), (0, 40), (3, 40), (40, 40), (749, 750)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilsons_interval(successes, total, confidence):
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, shrink = successes / total, 1 + z * z / total
    centre = (share + z * z / (2 * total)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    assert wilson_interval(successes, total, confidence) == pytest.approx(
        (centre - half, centre + half), abs=1e-6
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_area_counts_pairs_and_ties_by_half(seed):
    generator = np.random.default_rng(seed)
    count = int(generator.integers(5, 200))
    scores = np.round(generator.random(count), int(generator.integers(1, 6)))
    labels = np.append([0, 1], generator.integers(0, 2, count - 2))
    positive, normal = scores[labels == 1], scores[labels == 0]
    wins = (positive[:, None] > normal).mean() + 0.5 * (positive[:, None] == normal).mean()
    assert roc_auc(scores, labels) == pytest.approx(wins, abs=1e-6)
    curve = roc_curve(scores, labels)
    assert curve.thresholds[0] == np.inf
    assert list(curve.thresholds[1:]) == sorted(set(scores), reverse=True)
    for fpr, tpr, threshold in zip(
        curve.false_positive_rate, curve.true_positive_rate, curve.thresholds, strict=True
    ):
        assert (fpr, tpr) == pytest.approx(((normal >= threshold).mean(), (positive >= threshold).mean()))


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_named_after_their_first_member(seed):
    generator = np.random.default_rng(seed)
    pairs = [tuple(map(int, pair)) for pair in generator.integers(0, 60, (25, 2))]
    expected = list(range(60))
    for _ in pairs:  # spread the least name until nothing changes any more
        for first, second in pairs:
            expected[first] = expected[second] = min(expected[first], expected[second])
    assert join_pairs(60, pairs).tolist() == expected
    assert join_pairs(60, []).tolist() == list(range(60))
    assert join_pairs(0, []).tolist() == []
