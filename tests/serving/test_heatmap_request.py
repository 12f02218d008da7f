"""What is said of a map that is doubtful: heat beside the lungs, a second method that contradicts it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from covid_mm.explain.heat_checks import MOST_OUTSIDE
from covid_mm.imaging.lungs import find_region
from covid_mm.serving.heatmap_request import HeatmapRequest, find_heat_warnings
from covid_mm.serving.reading import StudyImage

SIDE = 150
REQUEST = HeatmapRequest(-1, "layer_cam", "coarse", "fixed")


def blob(row: int, column: int) -> np.ndarray:
    heat = np.zeros((SIDE, SIDE), np.float32)
    heat[row - 8 : row + 8, column - 8 : column + 8] = 1.0
    return heat


@pytest.fixture
def study() -> dict[str, StudyImage]:
    """One slice with two lungs, and heat can lie in the left one or between both."""
    probability = np.zeros((256, 256), np.float32)
    probability[60:200, 40:110] = probability[60:200, 146:216] = 1.0
    pixels = np.zeros((SIDE, SIDE, 3), np.float32)
    preview = np.zeros((256, 256, 3), np.uint8)
    return {"ct": StudyImage(pixels, pixels, preview, find_region(probability, "ct"))}


IN_LUNG, BETWEEN = blob(75, 30), blob(75, 75)


def codes(study, heat, second, request=REQUEST, class_index=1) -> list[str]:
    warnings = find_heat_warnings(study, request, class_index, {"ct": heat}, {"ct": second})
    return [notice.code for notice in warnings]


def test_heat_in_the_lungs_by_both_methods_needs_no_word(study):
    assert codes(study, IN_LUNG, IN_LUNG) == []


def test_heat_beside_the_lungs_is_said_with_its_share(study):
    (notice,) = find_heat_warnings(study, REQUEST, 1, {"ct": BETWEEN}, {"ct": BETWEEN})
    assert notice.code == "heat_outside_lungs_ct"
    assert "100 % of the evidence on the CT lies outside the lungs" in notice.message
    level = MOST_OUTSIDE["ct"]
    for share, expected in ((level - 0.1, []), (level + 0.1, ["heat_outside_lungs_ct"])):
        mixed = (1 - share) * IN_LUNG + share * BETWEEN
        assert codes(study, mixed, mixed) == expected


def test_two_methods_that_point_elsewhere_are_named(study):
    (notice,) = find_heat_warnings(study, REQUEST, 1, {"ct": IN_LUNG}, {"ct": blob(75, 120)})
    assert notice.code == "methods_contradict_ct"
    assert "on the CT: Layer-CAM and HiResCAM point to different places" in notice.message


def test_what_was_not_measured_is_not_judged(study):
    other = dataclasses.replace(REQUEST, method="grad_cam")
    assert codes(study, BETWEEN, IN_LUNG, other) == []
    assert codes(study, BETWEEN, IN_LUNG, class_index=0) == []  # evidence for normal has no place to lie
    without = {"ct": dataclasses.replace(study["ct"], region=None)}
    assert codes(without, BETWEEN, BETWEEN) == []
