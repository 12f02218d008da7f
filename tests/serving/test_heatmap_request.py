"""Which maps come with an answer, and what is said of a doubtful one: heat beside the lungs, methods that differ."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from covid_mm.errors import UsageError
from covid_mm.explain.heat_checks import APART, MEASURED, OUTSIDE, HeatLevel
from covid_mm.imaging.lungs import find_region
from covid_mm.serving.heatmap_request import HeatmapRequest, find_heat_warnings, request_heatmaps
from covid_mm.serving.reading import StudyImage

SIDE = 150
REQUEST = HeatmapRequest(1, *MEASURED, "fixed")


def blob(row: int, column: int) -> np.ndarray:
    heat = np.zeros((SIDE, SIDE), np.float32)
    heat[row - 8 : row + 8, column - 8 : column + 8] = 1.0
    return heat


@pytest.fixture
def study() -> dict[str, StudyImage]:
    """One slice with two lungs, and heat can lie in the left one or between both."""
    probability = np.zeros((256, 256), np.float32)
    probability[60:200, 40:110] = probability[60:200, 146:216] = 1.0
    pixels = np.zeros((SIDE, SIDE), np.float32)
    preview = np.zeros((256, 256, 3), np.uint8)
    return {"ct": StudyImage(pixels, pixels, preview, find_region(probability, "ct"))}


IN_LUNG, BETWEEN = blob(75, 30), blob(75, 75)


def codes(study, heat, second, request=REQUEST, class_index=1) -> list[str]:
    warnings = find_heat_warnings(study, request, class_index, {"ct": heat}, {"ct": second})
    return [notice.code for notice in warnings]


def worth(level: HeatLevel) -> str:
    return f"{level.beyond:.0%} had the map's hottest point on a lesion, of the others {level.within:.0%}.".replace(
        "%", " %"
    )


def test_heat_in_the_lungs_by_both_methods_needs_no_word(study):
    assert codes(study, IN_LUNG, IN_LUNG) == []


def test_heat_beside_the_lungs_is_said_with_its_share(study):
    (notice,) = find_heat_warnings(study, REQUEST, 1, {"ct": BETWEEN}, {"ct": BETWEEN})
    assert notice.code == "heat_outside_lungs_ct"
    assert "100 % of the evidence on the CT lies outside the lungs" in notice.message
    assert worth(OUTSIDE["ct"]) in notice.message
    level = OUTSIDE["ct"].level
    for share, expected in ((level - 0.1, []), (level + 0.1, ["heat_outside_lungs_ct"])):
        mixed = (1 - share) * IN_LUNG + share * BETWEEN
        assert codes(study, mixed, mixed) == expected


def test_two_methods_that_point_elsewhere_are_named(study):
    (notice,) = find_heat_warnings(study, REQUEST, 1, {"ct": IN_LUNG}, {"ct": blob(75, 120)})
    assert notice.code == "methods_contradict_ct"
    assert "on the CT: Attention map and HiResCAM point to different places" in notice.message
    assert worth(APART["slice"]) in notice.message


def test_what_was_not_measured_is_not_judged(study):
    other = dataclasses.replace(REQUEST, method="grad_cam")
    assert codes(study, BETWEEN, IN_LUNG, other) == []
    assert codes(study, BETWEEN, IN_LUNG, class_index=0) == []  # evidence for normal has no place to lie
    without = {"ct": dataclasses.replace(study["ct"], region=None)}
    assert codes(without, BETWEEN, BETWEEN) == []


def own(method: str, layer: str = "coarse", pooling: str = "attention") -> SimpleNamespace:
    network = SimpleNamespace(pooling=pooling)
    return SimpleNamespace(name="toy", heatmap_method=method, heatmap_layer=layer, network=network)


def asked(meta: SimpleNamespace, **wishes: str) -> tuple[int, str, str, str]:
    request = request_heatmaps(meta, **wishes)
    return request.class_index, request.method, request.layer, request.scale


def test_attention_is_of_the_positive_class_whatever_the_answer():
    assert asked(own("attention")) == (1, "attention", "coarse", "fixed")
    assert asked(own("attention"), heatmap_class="covid19_pneumonia") == (1, "attention", "coarse", "fixed")
    assert asked(own("layer_cam"), method="attention") == (1, "attention", "coarse", "relative")
    assert asked(own("layer_cam", "fine"), method="attention") == (1, "attention", "coarse", "relative")
    assert asked(own("layer_cam")) == (-1, "layer_cam", "coarse", "fixed")


def test_layer_cam_stands_in_for_what_attention_cannot_show():
    assert asked(own("attention"), heatmap_class="normal") == (0, "layer_cam", "coarse", "relative")
    assert asked(own("attention"), layer="fine") == (-1, "layer_cam", "fine", "relative")


@pytest.mark.parametrize("wish", [{"heatmap_class": "normal"}, {"layer": "fine"}])
def test_attention_of_another_class_or_layer_is_refused(wish):
    with pytest.raises(UsageError, match="of COVID-19 pneumonia and layer coarse only"):
        request_heatmaps(own("attention"), method="attention", **wish)


def test_a_network_that_pools_by_the_mean_has_no_attention():
    with pytest.raises(UsageError, match="Checkpoint toy pools by the mean"):
        request_heatmaps(own("grad_cam", pooling="average"), method="attention")
