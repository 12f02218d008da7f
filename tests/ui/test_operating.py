"""The decision threshold on the page: what was measured at it, and the points of the slider."""

from __future__ import annotations

import copy
import html
import json
import re

import pytest
from fake_predictor import META

from covid_mm.ui.operating import find_operating, render_operating

MEASURED = META["metrics"]["validation"]["fused"]


def test_the_shares_are_those_measured_at_this_very_threshold():
    found = find_operating(META, "fused", 0.5)
    assert found is not None
    assert found.measured == {key: MEASURED[key] for key in ("accuracy", "sensitivity", "specificity")}
    assert (found.positive, found.negative) == (389, 355)
    assert len(found.thresholds) == len(found.true_positive) == len(found.false_positive) == 99
    moved = find_operating(META, "fused", 0.4)
    assert moved is not None
    assert moved.measured == {}  # 0.5 was measured, 0.4 was not
    alone = find_operating(META, "ct", 0.5)
    assert alone is not None
    assert not any(alone.measured.values())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda points: points.pop("thresholds"),
        lambda points: points.update(thresholds=[]),
        lambda points: points.update(true_positive=[1, 2]),
        lambda points: points.update(false_positive=None),
        lambda points: points.update(positive="many"),
    ],
    ids=["missing", "empty", "uneven", "null", "not-a-count"],
)
def test_points_that_cannot_be_used_are_none(spoil):
    meta = copy.deepcopy(META)
    spoil(meta["operating_points"]["fused"])
    assert find_operating(meta, "fused", 0.5) is None
    assert render_operating(None, 0.5, 0.7) == ""


@pytest.mark.parametrize("meta", [{}, {"operating_points": None}, {"operating_points": {"fused": []}}])
def test_a_checkpoint_without_points_has_no_slider(meta):
    assert find_operating(meta, "fused", 0.5) is None


def test_the_slider_begins_at_the_threshold_and_carries_every_point():
    panel = render_operating(find_operating(META, "fused", 0.35), 0.35, 0.71239)
    assert re.search(r'<input[^>]*value="35"', panel)
    points = json.loads(html.unescape(re.search(r'data-points="([^"]*)"', panel).group(1)))
    source = META["operating_points"]["fused"]
    assert points["thresholds"] == source["thresholds"]
    assert points["truePositive"] == source["true_positive"]
    assert points["falsePositive"] == source["false_positive"]
    assert (points["positive"], points["negative"]) == (389, 355)
    assert points["probability"] == 0.7124
    words = html.unescape(re.search(r'data-text="([^"]*)"', panel).group(1))
    assert set(re.findall(r"{(\w+)}", words)) == {"threshold", "sensitivity", "specificity", "called"}


def test_counts_and_intervals_are_shown_or_said_to_be_missing():
    panel = render_operating(find_operating(META, "fused", 0.5), 0.5, 0.7)
    for figure in ("388/389", "335/355", "723/744", "98.56", "99.95"):
        assert figure in panel
    without = render_operating(find_operating(META, "xray", 0.5), 0.5, 0.7)
    assert "<dl>" not in without
    assert "388/389" not in without
