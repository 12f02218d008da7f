"""The Model tab: everything of meta.json that a reader needs, escaped, and nothing it does not say."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from fake_predictor import META as FAKE

from covid_mm.errors import CheckpointError
from covid_mm.formats import format_percent
from covid_mm.reporting.card_words import TUNED
from covid_mm.ui.model.roc_chart import draw_roc, trace_curve
from covid_mm.ui.model.sections import read_networks
from covid_mm.ui.model.tab import render_loaded, render_model_card
from covid_mm.ui.predictors import PredictorLoader
from covid_mm.ui.study.evidence import find_tables

ROOT = Path(__file__).resolve().parents[3]
POINTS = {
    "thresholds": [0.25, 0.5, 0.75],
    "true_positive": [10, 8, 4],
    "false_positive": [6, 2, 0],
    "positive": 10,
    "negative": 20,
}


@pytest.fixture(scope="module")
def meta() -> dict:
    """The committed checkpoint's own meta.json."""
    return json.loads((ROOT / "checkpoints/densenet121-mobilenet/meta.json").read_text())


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_the_card_tells_what_the_issue_asks_for(meta):
    text = text_of(render_model_card(meta, "densenet121-mobilenet"))
    report = meta["metrics"]["validation"]["fused"]["accuracy"]
    assert f"{report['successes']}/{report['total']}" in text
    for words in (
        "Research use only",
        "On hospitals and scanners never seen in training",
        "medseg-ct 265 / 356 0.",
        "Where its heatmaps point",
        "SARS-CoV-2 CT-scan training (1,737 images) 1,229 1,252 0 not known CC BY-NC-SA 4.0",
        "RSNA Pneumonia Detection, films without pneumonia evaluation only",
        "Images that get no answer",
        "siim-covid19-scanners-1 Lungs blanked out 400",
        "Confusion matrices",
        "Temperature and threshold were chosen on left-out collections, not on these images.",
        "Few CT hospitals. CT collections with both classes: 2 (SARS-CoV-2 CT-scan, MedSeg",
        "How to train it again",
        meta["weights"]["sha256"],
    ):
        assert words in text
    assert meta["command"] in text.replace("&#39;", "'")


def test_it_is_well_formed(meta):
    ET.fromstring(render_model_card(meta, "x").replace("&nbsp;", " "))


def test_an_older_or_foreign_meta_leaves_sections_out():
    html = render_model_card({}, "x")
    assert "<h2>" not in html
    assert "Research use only" in html


def test_texts_are_escaped(meta):
    changed = copy.deepcopy(meta)
    changed["data"][0]["name"] = changed["trained_on"] = "<script>alert(1)</script>"
    html = render_model_card(changed, "<b>")
    assert "<script" not in html
    assert "<b>" not in html


def test_phantoms_are_said_first(meta):
    assert "synthetic phantoms" in text_of(render_model_card(meta | {"synthetic": True}, "x"))
    assert "synthetic phantoms" not in text_of(render_model_card(meta, "x"))


def test_the_curve_goes_through_the_counts():
    assert trace_curve(POINTS) == [(0.0, 0.0), (0.0, 0.4), (0.1, 0.8), (0.3, 1.0), (1.0, 1.0)]
    (html,) = draw_roc({"ct": POINTS}, {"ct": "CT alone"})
    assert "sensitivity 80.0 %, specificity 90.0 %" in html
    assert draw_roc({}, {}) == []


def test_left_out_figures_stand_first_and_those_of_the_split_say_what_they_are():
    text = text_of(render_model_card(FAKE, "x"))
    titles = (
        "On hospitals and scanners never seen in training",
        "Where its heatmaps point",
        "Two images as independent evidence",
        "Measured inside the training collections",
        "Other thresholds",
    )
    positions = [text.index(title) for title in titles]
    assert positions == sorted(positions)
    for words in (
        "CT and X-ray combined. On hospitals and scanners never seen in training: sensitivity 87 %",
        "Threshold 50 %. Abstain zone 47 to 51 %. No probability above 95 % is shown.",
        "first 40 / 60 0.900 (0.870 to 0.920) 86 % (83 to 88 %) 83 % (80 to 85 %) 3.1 % 91 % (88 to 93 %)"
        " 17 % (15 to 20 %)",
        "second 70 / 0 none none 83 %",
        "mean of the two-class collections 0.887 (0.857 to 0.907) 81.2 % 80.6 % 4.2 %",
        "X-ray boxes round opacities Grad-CAM coarse (last convolution) 216 72 % 21 %",
        "first HiResCAM fine (earlier layer) 98 51 % (41 to 61 %) 6 % 22 % none",
        "They say how well the collections were learned, not what the answer is worth elsewhere.",
        "CT alone: another threshold on 744 validation images or pairs, inside the training collections",
    ):
        assert words in text
    assert "calibrated on itself" not in text


def test_a_card_without_left_out_figures_says_so(meta):
    bare = {key: value for key, value in meta.items() if key not in ("left_out", "evidence", "heat_location")}
    text = text_of(render_model_card(bare, "x"))
    assert "was not measured: do not trust its probability" in text
    assert "Where its heatmaps point" not in text


def test_the_left_out_tables_are_those_that_a_checkpoint_keeps():
    assert [head for head, _ in find_tables(FAKE["left_out"])] == ["fused", "ct", "xray"]


@pytest.mark.parametrize(
    "left_out",
    [None, {}, [], "x", {"heads": 3}, {"heads": [{"head": "ct", "rows": None}]}, {"heads": [{"rows": []}]}],
)
def test_what_is_no_left_out_table_is_none(left_out):
    assert list(find_tables(left_out)) == []


def test_a_row_that_was_calibrated_on_itself_is_marked():
    changed = copy.deepcopy(FAKE)
    changed["left_out"]["heads"][1]["rows"][0]["is_own_calibration"] = True
    text = text_of(render_model_card(changed, "x"))
    assert "first * 40 / 60" in text
    assert "calibrated on itself" in text


def test_a_network_that_failed_is_one_sentence():
    def load():
        raise CheckpointError("The weights are <damaged>.")

    loader = PredictorLoader(load)
    loader.start()
    assert "The weights are &lt;damaged&gt;." in render_loaded(loader)


def test_the_content_check_is_shown_with_what_it_was_measured_on(meta):
    text = text_of(render_model_card(meta, "densenet121-mobilenet"))
    part = next(p for p in meta["content_check"]["measured"] if (p["kind"], p["slot"]) == ("neither", "ct"))
    refused = part["total"] - part["outcomes"]["answered"]
    assert f"{refused}/{part['total']} = {format_percent(refused / part['total'])} rightly" in text
    assert "The content check" not in text_of(render_model_card(meta | {"content_check": None}, "x"))


def measured(name: str, protocol: str, successes: int) -> dict:
    """A network of results.json, as far as the card reads it."""
    accuracy = {"successes": successes, "total": 100, "value": successes / 100, "low": 0.5, "high": 0.995}
    branches = [["ct", "resnet50"], ["xray", "vgg16"]] if name == "resnet50-vgg16" else [["ct", "xception"]]
    return {"name": name, "protocol": protocol, "branches": branches, "report": {"accuracy": accuracy}}


def test_nine_networks_stand_on_the_card_by_split(meta, tmp_path):
    networks = [
        measured("resnet50-vgg16", "paper", 98),
        measured("resnet50-vgg16", "grouped", 91),
        measured("ct-xception", "paper", 83),
        measured("ct-xception", "unknown", 12),
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"synthetic": False, "networks": networks}))
    text = text_of(render_model_card(meta, "densenet121-mobilenet", networks=read_networks(path)))
    assert "resnet50 (CT) + vgg16 (X-ray) 98/100 = 98 % (50 to 99 %) 91/100 = 91 %" in text
    assert "xception (CT) 83/100 = 83 % (50 to 99 %) not measured" in text
    assert "12/100" not in text


@pytest.mark.parametrize(
    "content", [None, "{", "[]", '{"synthetic": false}', '{"synthetic": true, "networks": [1]}']
)
def test_a_results_file_that_is_none_leaves_the_card_without_them(meta, tmp_path, content):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    assert list(read_networks(path)) == []
    card = render_model_card(meta, "densenet121-mobilenet", networks=read_networks(path))
    assert "nine networks" not in card


@pytest.mark.parametrize(
    ("changes", "tuning"),
    [
        ({"recipe": "served"}, "outside"),
        ({"recipe": "paper", "training": {"restored_epoch": "best"}}, "best"),
        ({"recipe": "paper", "training": {"kept_epoch": "last"}}, "last"),
        ({"recipe": "paper", "training": {}}, "best"),  # before there was a choice
    ],
)
def test_what_was_chosen_on_the_validation_images_is_said_as_it_was(changes, tuning):
    text = text_of(render_model_card(FAKE | {"temperature": {"fused": 1.1}, **changes}, "x"))
    assert [name for name, sentence in TUNED.items() if sentence in text] == [tuning]
