"""The result panel: each state says what it must, and nothing comes through unescaped."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import numpy as np
import pytest
from fake_predictor import FakePredictor
from made_images import make_png

from covid_mm.serving.prediction import BranchAnswer, Notice
from covid_mm.ui.analysis import Analysis, analyse_study
from covid_mm.ui.result import render_analysis, render_empty, render_error

VOID = {"img", "input", "br", "path", "circle"}


class WellFormed(HTMLParser):
    """Fails on tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def parse(html: str) -> WellFormed:
    parser = WellFormed()
    parser.feed(html)
    assert parser.open == []
    return parser


@pytest.fixture
def analyse(tmp_path, predictor: FakePredictor):
    def run(ct: bytes | None, xray: bytes | None) -> Analysis:
        paths = []
        for name, data in (("ct", ct), ("xray", xray)):
            if data is not None:
                (tmp_path / name).write_bytes(data)
            paths.append(None if data is None else str(tmp_path / name))
        return analyse_study(predictor, *paths)

    return run


def test_empty_and_error_states_are_whole_and_carry_the_banner():
    for html in (render_empty(), render_error("Something <b>bad</b> & odd.")):
        parse(html)
        assert "Research use only, not for diagnosis." in html
    assert "Something &lt;b&gt;bad&lt;/b&gt; &amp; odd." in html


def test_an_answer_names_class_probabilities_branches_and_checkpoint(analyse, bright):
    html = render_analysis(analyse(bright, bright))
    parser = parse(html)
    assert 'data-label="covid19_pneumonia"' in html
    assert "from CT and X-ray together" in html
    for branch in ("fused", "ct", "xray"):
        assert f'data-branch="{branch}" data-label="covid19_pneumonia"' in html
    for text in ("fake-for-tests", "2026-01-02", "a stand-in for the tests", "densenet121-mobilenet"):
        assert text in html
    assert "Decision threshold: called positive from" in html
    assert 'data-flag="disagree"' not in html
    assert len(parser.images) == 2 * (2 + 1 + 1)  # image, image below its map, map, colour bar
    assert all(image["alt"] for image in parser.images)
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in parser.images)
    assert html.count('<svg class="mm-outline"') == 4


def test_disagreement_is_flagged_and_explained(analyse, bright, dark):
    html = render_analysis(analyse(bright, dark))
    assert 'data-flag="disagree"' in html
    assert 'data-code="branches_disagree"' in html
    assert 'data-branch="xray" data-label="normal"' in html


def test_one_image_is_answered_alone_and_says_so(analyse, dark):
    html = render_analysis(analyse(None, dark))
    assert "from the X-ray alone" in html
    assert 'data-code="single_modality"' in html
    assert 'data-branch="fused"' not in html
    assert '<div class="mm-bar mm-bar-none" data-branch="ct"><dt>CT</dt><dd>not given</dd>' in html
    assert 'data-modality="ct"' not in html


def test_no_positive_evidence_is_a_state(analyse, dark):
    analysis = analyse(dark, dark)
    flat = {**analysis.prediction.heatmaps, "ct": np.zeros((150, 150), np.float32)}
    notice = Notice("no_positive_evidence_ct", "Nothing found on the CT.")
    prediction = dataclasses.replace(analysis.prediction, heatmaps=flat, warnings=(notice,))
    html = render_analysis(dataclasses.replace(analysis, prediction=prediction))
    assert html.count("No positive evidence for COVID-19 pneumonia") == 1
    assert html.count('class="mm-layer" src=') == 1
    assert "Nothing found on the CT." in html


def test_an_undetermined_study_has_no_probability(analyse, dark):
    analysis = analyse(dark, dark)
    prediction = dataclasses.replace(
        analysis.prediction,
        label="undetermined",
        probabilities={},
        branches={"ct": BranchAnswer("undetermined", {})},
        warnings=(Notice("not_a_chest_image", "This is no chest image."),),
    )
    html = render_analysis(dataclasses.replace(analysis, prediction=prediction))
    parse(html)
    assert "Undetermined" in html
    assert "This is no chest image." in html
    assert " %</dd>" not in html
    for absent in ("mm-threshold", "mm-bar", "mm-source", "Calibrated probability"):
        assert absent not in html


def test_each_head_is_shown_against_its_own_threshold(analyse, bright):
    analysis = analyse(bright, bright)
    html = render_analysis(dataclasses.replace(analysis, thresholds={"fused": 0.5, "ct": 0.437, "xray": 0.6}))
    assert "50 % (together), 43.7 % (CT alone), 60 % (X-ray alone)" in html
    assert 'style="left:43.7%"' in html


def test_nothing_from_a_checkpoint_or_notice_is_trusted(analyse, bright):
    analysis = analyse(bright, bright)
    evil = '<script>alert("x")</script>'
    info = dataclasses.replace(analysis.prediction.checkpoint, name=evil, trained_on=evil, pair=evil)
    prediction = dataclasses.replace(
        analysis.prediction, checkpoint=info, warnings=(Notice('"><script>', evil),)
    )
    html = render_analysis(dataclasses.replace(analysis, prediction=prediction))
    parse(html)
    assert "<script" not in html


def test_a_value_that_rounds_to_the_threshold_says_on_which_side_it_is(analyse, bright):
    analysis = analyse(bright, None)
    value = analysis.prediction.probabilities["covid19_pneumonia"]
    html = render_analysis(dataclasses.replace(analysis, thresholds={"ct": value + 0.001}))
    assert "just below the threshold" in html


def test_different_images_give_different_panels(analyse):
    first = render_analysis(analyse(make_png(0.3, seed=3), make_png(0.6, seed=4)))
    again = render_analysis(analyse(make_png(0.3, seed=3), make_png(0.6, seed=4)))
    other = render_analysis(analyse(make_png(0.4, seed=5), make_png(0.6, seed=4)))
    assert first == again
    assert first != other
