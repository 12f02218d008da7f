"""Fused head against the sum of calibrated logits, by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from covid_mm.errors import DataError
from covid_mm.evaluation.fusion import FusionComparison, compare_fusion, draw_pairs
from covid_mm.reporting.left_out_tables import fusion_table

CT = np.array([-2.0, -1.0, 2.0, 1.0])
XRAY = np.array([-1.0, 1.0, 3.0])
CT_LABELS, XRAY_LABELS = [0, 0, 1, 1], [0, 0, 1]
LABELS = {"ct": CT_LABELS, "xray": XRAY_LABELS}
ONE_EACH = {"ct": [0, 1], "xray": [0, 1]}


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_pairs_hold_every_combination_alike():
    pairs = draw_pairs(LABELS, per_kind=6, seed=1)
    ct, xray = np.array(CT_LABELS)[pairs.rows["ct"]], np.array(XRAY_LABELS)[pairs.rows["xray"]]
    kinds = [tuple(kind) for kind in np.stack([ct, xray], axis=1).tolist()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == dict.fromkeys(
        [(0, 0), (1, 1), (1, 0), (0, 1)], 6
    )
    np.testing.assert_array_equal(pairs.agreeing, ct == xray)
    np.testing.assert_array_equal(pairs.labels, np.maximum(ct, xray))
    again = draw_pairs(LABELS, per_kind=6, seed=1)
    np.testing.assert_array_equal(again.rows["ct"], pairs.rows["ct"])
    np.testing.assert_array_equal(again.rows["xray"], pairs.rows["xray"])
    # no image is drawn more often than another of its class by more than one round
    assert np.bincount(pairs.rows["ct"]).tolist() == [6, 6, 6, 6]


def test_pairs_need_both_classes():
    with pytest.raises(DataError, match="both classes"):
        draw_pairs({**LABELS, "ct": [0, 0]}, per_kind=1)
    with pytest.raises(DataError, match="at least 1 pair"):
        draw_pairs(LABELS, per_kind=0)


@pytest.fixture
def comparison() -> FusionComparison:
    """One pair of each kind; the fused head says +1 of all of them."""
    pairs = draw_pairs(ONE_EACH, per_kind=1)
    return compare_fusion(
        pairs, fused_logits=np.ones(4), branch_logits={"ct": [-2.0, 1.0], "xray": [0.5, 3.0]}
    )


def test_agreeing_pairs_by_hand(comparison):
    total = comparison.find("sum", "agreeing")  # normal: -1.5, positive: 4
    assert total.count == 2
    assert total.log_loss == pytest.approx(-(math.log(1 - sigmoid(-1.5)) + math.log(sigmoid(4))) / 2)
    assert total.ece == pytest.approx((sigmoid(-1.5) + 1 - sigmoid(4)) / 2)
    assert (total.auc, total.posterior_difference) == (1.0, 0.0)
    fused = comparison.find("fused", "agreeing")
    assert fused.auc == 0.5
    assert fused.log_loss == pytest.approx(-(math.log(sigmoid(1)) + math.log(1 - sigmoid(1))) / 2)
    expected = (abs(sigmoid(1) - sigmoid(-1.5)) + abs(sigmoid(1) - sigmoid(4))) / 2
    assert fused.posterior_difference == pytest.approx(expected)


def test_disagreeing_pairs_by_hand(comparison):
    fused = comparison.find("fused", "disagreeing")  # sums: 1 + 0.5, -2 + 3
    assert (fused.count, fused.auc) == (2, None)
    assert fused.log_loss == pytest.approx(-math.log(sigmoid(1)))
    assert fused.ece == pytest.approx(1 - sigmoid(1))
    assert fused.posterior_difference == pytest.approx((sigmoid(1.5) - sigmoid(1)) / 2)
    assert comparison.find("sum", "disagreeing").posterior_difference == 0.0


def test_a_fused_head_that_is_the_sum_is_as_calibrated():
    pairs = draw_pairs(LABELS, per_kind=4)
    fused = CT[pairs.rows["ct"]] + XRAY[pairs.rows["xray"]]
    comparison = compare_fusion(pairs, fused_logits=fused, branch_logits={"ct": CT, "xray": XRAY})
    assert comparison.is_fused_as_calibrated
    assert comparison.better_branch == "ct"
    worse = compare_fusion(pairs, fused_logits=-fused, branch_logits={"ct": CT, "xray": XRAY})
    assert not worse.is_fused_as_calibrated


def test_the_comparison_survives_json_and_is_shown(comparison):
    assert FusionComparison.from_dict(json.loads(json.dumps(comparison.to_dict()))) == comparison
    text = fusion_table(comparison)
    assert len(text.splitlines()) == 2 + 8
    assert "| disagreeing | fused head | 2 | 0.313 | 26.9 % | n/a |" in text
    assert "CT branch alone (the better one)" in text
    with pytest.raises(KeyError, match="sum"):
        FusionComparison((), "ct").find("sum", "agreeing")


@pytest.mark.parametrize(
    ("fused", "ct", "message"),
    [
        (np.ones(3), [0.0, 1.0], "fused logit for each"),
        (np.ones(4), [0.0], "one for each image"),
        (np.full(4, np.nan), [0.0, 1.0], "finite"),
    ],
)
def test_logits_that_do_not_fit_are_refused(fused, ct, message):
    pairs = draw_pairs(ONE_EACH, per_kind=1)
    with pytest.raises(DataError, match=message):
        compare_fusion(pairs, fused_logits=fused, branch_logits={"ct": ct, "xray": [0.0, 1.0]})


def test_three_modalities_have_eight_combinations():
    pairs = draw_pairs({**LABELS, "lateral": [0, 1]}, per_kind=2)
    assert pairs.labels.size == 8 * 2
    assert pairs.agreeing.sum() == 2 * 2
    branches = {"ct": CT, "xray": XRAY, "lateral": [-1.0, 2.0]}
    total = sum(np.asarray(branches[m])[rows] for m, rows in pairs.rows.items())
    comparison = compare_fusion(pairs, fused_logits=total, branch_logits=branches)
    assert comparison.find("fused", "disagreeing").posterior_difference == 0.0
    assert comparison.better_branch in ("ct", "lateral")
