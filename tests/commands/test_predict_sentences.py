"""What `predict` says in sentences, without a network."""

from __future__ import annotations

import numpy as np
import pytest

from covid_mm.commands.predict import describe, format_capped, write_heatmaps
from covid_mm.serving.prediction import BranchAnswer, CheckpointInfo, Evidence, Notice, Prediction

INFO = CheckpointInfo("toy", "0" * 64, "a-b", "made-up images", "2020-01-02", 0.5)


def make_prediction(**changes) -> Prediction:
    probabilities = {"normal": 0.03, "covid19_pneumonia": 0.97}
    fields = {
        "label": "covid19_pneumonia",
        "probabilities": probabilities,
        "branches": {"ct": BranchAnswer("covid19_pneumonia", probabilities, 0.97)},
        "modalities": ("ct",),
        "heatmaps": {"ct": np.full((100, 200), 0.5, np.float32)},
        "heatmap_class": "covid19_pneumonia",
        "images": {"ct": np.full((100, 200, 3), 90, np.uint8)},
        "warnings": (),
        "checkpoint": INFO,
        "supported_probability": 0.97,
    }
    return Prediction(**fields | changes)


@pytest.mark.parametrize(
    ("probability", "supported", "text"),
    [
        (0.5, 0.97, "50 %"),
        (0.97, 0.97, "over 97 %"),
        (1 - 0.97, 0.97, "under 3 %"),
        (1.0, 1.0, "over 99 %"),
        (0.0, 1.0, "under 1 %"),
    ],
)
def test_what_is_not_supported_is_said_as_over_or_under(probability, supported, text):
    assert format_capped(probability, supported) == text


def test_the_answer_comes_with_what_it_is_worth():
    evidence = Evidence(0.9, 0.85, 0.94, 0.8, 0.853, ("one", "two"), 400)
    text = describe(make_prediction(evidence=evidence), {})
    assert "COVID-19 pneumonia: probability of COVID-19 pneumonia over 97 %, threshold 50 %" in text
    assert "CT alone: COVID-19 pneumonia (over 97 %)" in text
    assert (
        "on 400 images of 2 collections left out of training: AUC 0.90 (0.85 to 0.94), sensitivity 80 %,"
        " specificity 85 %" in text
    )


def test_no_answer_is_said_with_its_reason():
    notice = Notice("lungs_not_found_ct", "No lungs were found on the CT, so there is no answer. Replace it.")
    branches = {"ct": BranchAnswer("undetermined", {})}
    text = describe(
        make_prediction(
            label="undetermined", probabilities={}, branches=branches, heatmaps={}, warnings=(notice,)
        ),
        {},
    )
    assert text.startswith("Undetermined\n  note: No lungs were found")


def test_an_overlay_has_the_images_aspect(tmp_path):
    import cv2

    files = write_heatmaps(make_prediction(), tmp_path / "maps")
    assert cv2.imread(files["ct"]).shape == (300, 600, 3)
