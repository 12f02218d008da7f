"""From logits to an honest answer: offset, abstain zone, what is supported, and the left-out figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from toy_checkpoint import HEADS, make_meta
from toy_networks import PAIR, grey_images, make_network, toy_backbones

from covid_mm.config import CLASSES
from covid_mm.serving.answers import answer_by, find_rule, weigh_heads
from covid_mm.serving.metadata import parse_metadata
from covid_mm.serving.predictor import Predictor

pytestmark = pytest.mark.usefixtures("small_backbones")
POSITIVE = CLASSES[1]
BOTH = ("ct", "xray")
FIGURES = {
    "auc": 0.9,
    "auc_low": 0.85,
    "auc_high": 0.94,
    "sensitivity": 0.8,
    "specificity": 0.85,
    "collections": ["one hospital", "another"],
    "images": 400,
}
LOCATION = {
    "target": "opacity boxes",
    "hit": 0.7,
    "chance": 0.21,
    "images": 300,
    "method": "layer_cam",
    "layer": "fine",
}


@pytest.fixture(scope="module")
def network():
    with toy_backbones():
        return make_network(PAIR, head_width=16)


@pytest.fixture
def meta(network):
    """`meta(offset={...})`: checked metadata of the toy pair."""

    def make(**changes):
        weights = {"file": "model.weights.h5", "sha256": "0" * 64}
        return parse_metadata(make_meta(network, weights=weights, **changes), "toy")

    return make


def each(value):
    return dict.fromkeys(HEADS, value)


def logits(difference: float) -> np.ndarray:
    return np.array([0.0, difference], np.float32)


def test_the_offset_is_taken_from_the_difference_of_the_logits(meta):
    checked = meta(offset=each(0.5), temperature=each(2.0), decision_threshold=each(0.6))
    answer = answer_by(checked, ("ct",), {"ct": logits(3.5)})
    assert answer.probabilities[POSITIVE] == pytest.approx(1 / (1 + math.exp(-1.5)), abs=1e-6)
    weights, least = weigh_heads(checked, find_rule(checked, ("ct",)))
    margin = least / weights["ct"]
    assert answer_by(checked, ("ct",), {"ct": logits(margin + 1e-3)}).label == POSITIVE
    assert answer_by(checked, ("ct",), {"ct": logits(margin - 1e-3)}).label == "normal"


@pytest.mark.parametrize(("share", "label"), [(0.2, "normal"), (0.35, None), (0.5, None), (0.75, POSITIVE)])
def test_inside_the_zone_no_class_is_named(meta, share, label):
    checked = meta(abstain_zone=each([0.3, 0.6]))
    answer = answer_by(checked, BOTH, {"fused": logits(math.log(share / (1 - share)))})
    assert answer.label == (label or "undetermined")
    assert answer.probabilities[POSITIVE] == pytest.approx(share, abs=1e-6)


def test_an_empty_zone_is_no_zone(meta):
    checked = meta(abstain_zone=each([0.5, 0.5]))
    assert checked.abstain_zone == each(None)
    assert answer_by(checked, BOTH, {"fused": logits(0.0)}).label == POSITIVE


@pytest.mark.parametrize(("difference", "shown"), [(9.0, 0.97), (-9.0, 0.03), (1.0, 1 / (1 + math.exp(-1)))])
def test_no_more_is_shown_than_is_supported(meta, difference, shown):
    answer = answer_by(meta(supported_probability=each(0.97)), ("xray",), {"xray": logits(difference)})
    assert answer.probabilities[POSITIVE] == pytest.approx(shown, abs=1e-6)
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.supported_probability == 0.97


def aim(network, **differences: float) -> None:
    for head, difference in differences.items():
        layer = network.model.get_layer("logits" if head == "fused" else f"{head}_logits")
        layer.kernel.assign(np.zeros(layer.kernel.shape, np.float32))
        layer.bias.assign([0.0, difference])


@pytest.fixture
def pictures():
    return list(grey_images(2, 150, seed=3).astype(np.uint8))


def test_an_abstained_study_has_its_numbers_and_heatmaps(meta, pictures):
    network = make_network(PAIR, head_width=16)
    aim(network, fused=0.2, ct=3.0, xray=-0.1)
    zone = {"fused": [0.3, 0.6], "ct": [0.5, 0.5], "xray": [0.4, 0.6]}
    answer = Predictor(network, meta(abstain_zone=zone)).predict(*pictures)
    assert (answer.label, answer.reason) == ("undetermined", "in_abstain_zone")
    assert answer.warnings[0].code == "in_abstain_zone"
    assert "between 30 % and 60 %" in answer.warnings[0].message
    assert answer.probabilities[POSITIVE] == pytest.approx(0.5498, abs=1e-3)
    assert answer.heatmap_class == POSITIVE  # the likelier one
    assert set(answer.heatmaps) == {"ct", "xray"}
    assert answer.abstain_zone == (0.3, 0.6)
    assert [answer.branches[m].label for m in ("ct", "xray")] == [POSITIVE, "undetermined"]
    assert not answer.has_warning("branches_disagree")  # one of them names no class
    result = Predictor(network, meta(abstain_zone=zone)).explain(*pictures)
    assert result.scale == "fixed"


def test_the_figures_are_those_of_the_head_that_answered(meta, network, pictures):
    checked = meta(
        evidence={"fused": FIGURES, "ct": FIGURES | {"auc": 0.86, "ece": 0.04}, "xray": None},
        heat_location={"ct": LOCATION, "xray": None},
        heatmap_method="layer_cam",
        heatmap_layer="fine",
        decision_threshold={"fused": 0.5, "ct": 0.4, "xray": 0.5},
    )
    predictor = Predictor(network, checked)
    both = predictor.predict(*pictures)
    assert both.to_dict()["evidence"] == {
        "auc": 0.9,
        "sensitivity": 0.8,
        "specificity": 0.85,
        "collections": ["one hospital", "another"],
        "images": 400,
    }
    assert (both.heatmap_method, both.heatmap_layer) == ("layer_cam", "fine")
    assert set(both.heat_location) == {"ct"}
    assert both.heat_location["ct"].hit == 0.7
    ct = predictor.predict(ct=pictures[0])
    assert (ct.evidence.auc, ct.evidence.ece, ct.checkpoint.decision_threshold) == (0.86, 0.04, 0.4)
    assert predictor.predict(xray=pictures[0]).evidence is None


def test_the_checkpoints_method_is_the_default_of_explain(meta, network, pictures):
    predictor = Predictor(network, meta(heatmap_method="hires_cam", heatmap_layer="fine"))
    answer = predictor.predict(*pictures, heatmap_class=POSITIVE)
    explained = predictor.explain(*pictures, heatmap_class=POSITIVE)
    assert (explained.method, explained.title, explained.layer, explained.scale) == (
        "hires_cam",
        "HiResCAM",
        "fine",
        "fixed",
    )
    for modality, heatmap in answer.heatmaps.items():
        np.testing.assert_array_equal(explained.heatmaps[modality], heatmap)
    assert predictor.explain(*pictures, method="grad_cam", layer="coarse").scale == "relative"
