"""Other thresholds: the points of the slider, left-out ones on the result and validation ones on the Model tab."""

from __future__ import annotations

import copy
import html
import json
import re

import pytest
from fake_predictor import META

from covid_mm.ui.study.operating_point import find_left_out, find_operating, render_operating


def read_points(panel: str) -> dict:
    return json.loads(html.unescape(re.search(r'data-points="([^"]*)"', panel).group(1)))


def read_words(panel: str) -> set[str]:
    return set(re.findall(r"{(\w+)}", html.unescape(re.search(r'data-text="([^"]*)"', panel).group(1))))


def test_left_out_points_and_validation_points_are_kept_apart():
    inside, outside = find_operating(META, "fused"), find_left_out(META, "fused")
    assert inside is not None
    assert outside is not None
    assert (inside.positive, inside.negative) == (389, 355)
    assert outside.positive + outside.negative == 1204
    assert len(inside.thresholds) == len(inside.true_positive) == len(inside.false_positive) == 99
    assert find_left_out(META, "ct") is None  # never replaced by the validation's
    assert find_operating(META, "ct") is not None


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
    spoil(meta["left_out"]["heads"][0]["operating_points"])
    assert find_operating(meta, "fused") is None
    assert find_left_out(meta, "fused") is None
    assert render_operating(None, 0.5, probability=0.7) == ""


@pytest.mark.parametrize(
    "meta",
    [{}, {"operating_points": None, "left_out": None}, {"operating_points": {"fused": []}, "left_out": []}],
)
def test_a_checkpoint_without_points_has_no_slider(meta):
    assert find_operating(meta, "fused") is None
    assert find_left_out(meta, "fused") is None


def test_the_slider_begins_at_the_threshold_and_carries_every_point():
    panel = render_operating(find_left_out(META, "fused"), 0.35, probability=0.71239)
    assert re.search(r'<input[^>]*value="35"', panel)
    points, source = read_points(panel), META["left_out"]["heads"][0]["operating_points"]
    assert points["thresholds"] == source["thresholds"]
    assert points["truePositive"] == source["true_positive"]
    assert points["falsePositive"] == source["false_positive"]
    assert (points["positive"], points["negative"]) == (602, 602)
    assert points["probability"] == 0.7124
    assert read_words(panel) == {"threshold", "sensitivity", "specificity", "called"}
    assert "1,204 images that were left out of training" in panel


def test_on_the_model_tab_no_study_is_called_anything():
    panel = render_operating(find_operating(META, "fused"), 0.5, title="CT and X-ray combined")
    assert read_points(panel)["probability"] is None
    assert read_words(panel) == {"threshold", "sensitivity", "specificity"}
    assert "744 validation images or pairs, inside the training collections" in panel
