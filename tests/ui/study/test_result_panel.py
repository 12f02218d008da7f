"""The result panel: each state says what it must, and nothing comes through unescaped."""

from __future__ import annotations

import dataclasses
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from fake_predictor import FakePredictor
from made_images import make_png

from covid_mm.serving.prediction import ABSTAINED, DISAGREE, BranchAnswer, Evidence, Notice
from covid_mm.serving.warnings import REASONS
from covid_mm.ui.study.analysis import Analysis, analyse_study
from covid_mm.ui.study.evidence import OTHER_DISEASES
from covid_mm.ui.study.result import render_analysis, render_empty, render_error

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


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


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
    assert "from CT and X-ray combined" in html
    for branch in ("fused", "ct", "xray"):
        assert f'data-branch="{branch}" data-label="covid19_pneumonia"' in html
    for text in ("fake-for-tests", "2026-01-02", "a stand-in for the tests", "densenet121-mobilenet"):
        assert text in html
    assert "Decision threshold: positive from" in html
    assert 'data-flag="disagree"' not in html
    assert len(parser.images) == 2 * (2 + 1 + 1)  # image, image below its map, map, colour bar
    assert all(image["alt"] for image in parser.images)
    kinds = ("data:image/png;base64,", "data:image/svg+xml;base64,")  # maps are drawn as their layer's cells
    assert all((image["src"] or "").startswith(kinds) for image in parser.images)
    assert html.count('<svg class="mm-outline"') == 4


def test_disagreement_is_flagged_and_explained(analyse, bright, dark):
    html = render_analysis(analyse(bright, dark))
    assert 'data-flag="disagree"' in html
    assert 'data-reason="branches_disagree"' in html
    assert 'data-code="branches_disagree"' not in html  # said once
    assert 'data-label="undetermined"' in html
    assert html.index('data-branch="xray"') < html.index('data-branch="fused"')  # small, below both
    assert 'data-branch="xray" data-label="normal"' in html


def test_one_image_is_answered_alone_and_says_so(analyse, dark):
    html = render_analysis(analyse(None, dark))
    assert "from the X-ray alone" in html
    assert 'data-code="single_modality"' not in html  # one image is no fault
    assert "mm-warnings" not in html
    assert 'data-branch="fused"' not in html
    assert 'data-branch="ct"' not in html
    assert 'data-modality="ct"' not in html


def test_a_positive_answer_says_that_other_diseases_look_alike(analyse, bright, dark):
    assert OTHER_DISEASES in render_analysis(analyse(bright, None))
    assert OTHER_DISEASES in render_analysis(analyse(bright, bright))
    assert "other lung diseases" not in render_analysis(analyse(dark, None))


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
    assert "50 % (combined), 43.7 % (CT alone), 60 % (X-ray alone)" in html
    assert 'style="left:43.7%"' in html


def test_the_left_out_evidence_stands_beside_the_probability_and_the_validation_figures_do_not(
    analyse, bright
):
    html = text_of(render_analysis(analyse(bright, bright)))
    assert (
        "On hospitals and scanners never seen in training: sensitivity 87 %, specificity 84 %, AUC 0.93 (0.91 to 0.95),"
        " 1,204 images of east hospital, west hospital." in html
    )
    assert "taken as independent evidence" in html
    assert "388/389" not in html
    assert "validation" not in html
    alone = text_of(render_analysis(analyse(bright, None)))
    assert "512 images of east hospital." in alone  # the figures of the head that answered
    assert "independent evidence" not in alone
    assert "mm-operating" not in render_analysis(analyse(bright, None))  # this head has no left-out points


def test_without_left_out_figures_the_page_says_so_and_offers_no_other(analyse, bright):
    analysis = analyse(bright, bright)
    bare = {key: value for key, value in analysis.meta.items() if key != "left_out"}
    prediction = dataclasses.replace(analysis.prediction, evidence=None)
    html = render_analysis(dataclasses.replace(analysis, prediction=prediction, meta=bare))
    assert "was not measured: do not trust its probability" in html
    assert 'data-measured="false"' in html
    assert "mm-operating" not in html


@pytest.mark.parametrize("code", [code for code in REASONS if code not in (ABSTAINED, DISAGREE)])
def test_each_reason_is_its_own_sentence(analyse, dark, code):
    analysis = analyse(dark, dark)
    prediction = dataclasses.replace(
        analysis.prediction,
        label="undetermined",
        probabilities={},
        heatmaps={},
        branches={"ct": BranchAnswer("undetermined", {})},
        warnings=(Notice(code if code == "swapped_inputs" else f"{code}_ct", "What to do."),),
    )
    html = render_analysis(dataclasses.replace(analysis, prediction=prediction))
    parse(html)
    said = re.findall(r'<p class="mm-reason"[^>]*>([^<]*)</p>', html)
    assert [unescape(one) for one in said] == [REASONS[code].format(modality="CT")]
    assert "What to do." in html


def test_in_the_abstain_zone_the_bar_is_small_with_the_zone_on_it(analyse):
    image = make_png(0.53, seed=1)
    html = render_analysis(analyse(image, image))
    parse(html)
    assert 'data-label="undetermined" data-abstains="true"' in html
    assert "The probability lies between 48 % and 51 %, where the network was wrong too often" in html
    assert "mm-figures" not in html  # no large percentage
    assert '<span class="mm-zone" style="left:48.0%;width:3.0%"></span>' in html
    assert html.count("mm-zone") == 3
    assert "Hatched, undetermined: 48 to 51 % (combined), 47 to 51 % (CT alone)" in html
    assert 'data-code="in_abstain_zone"' not in html  # said once
    assert html.count('class="mm-layer" src=') == 2


def test_an_answer_at_the_cap_is_drawn_outside_a_zone_that_goes_beyond_it(analyse, bright):
    analysis = analyse(bright, None)
    capped = {"normal": 0.15, "covid19_pneumonia": 0.85}
    alone = BranchAnswer("covid19_pneumonia", capped, 0.85)
    prediction = dataclasses.replace(
        analysis.prediction,
        label=alone.label,
        probabilities=capped,
        branches={"ct": alone},
        abstain_zone=(0.46, 0.91),
        supported_probability=0.85,
    )
    html = render_analysis(dataclasses.replace(analysis, prediction=prediction))
    assert "<b>over 85 %</b>" in html
    assert '<span class="mm-fill" style="width:92.0%"></span>' in html
    assert '<span class="mm-zone" style="left:46.0%;width:45.0%"></span>' in html


def test_outlines_are_drawn_over_image_and_map_with_a_toggle(analyse, bright):
    analysis = analyse(bright, bright)
    html = render_analysis(analysis)
    assert html.count('class="mm-outline-box"') == 2 * 4  # a dark line below each bright one
    assert '<input type="checkbox" class="mm-outline-toggle" checked aria-label=' in html
    assert "0.1000,0.1200 0.9000,0.1200" in html
    prediction = dataclasses.replace(analysis.prediction, lungs={}, outlines={})
    assert "mm-outline" not in render_analysis(dataclasses.replace(analysis, prediction=prediction))


def test_a_branch_that_abstains_is_neither_agreement_nor_disagreement(analyse, bright):
    html = render_analysis(analyse(bright, make_png(0.53, seed=1)))
    assert 'data-branch="xray" data-label="undetermined"' in html
    assert "disagree" not in html
    assert "mm-agree" not in html


def test_nothing_from_a_checkpoint_or_notice_is_trusted(analyse, bright):
    analysis = analyse(bright, bright)
    evil = '<script>alert("x")</script>'
    info = dataclasses.replace(analysis.prediction.checkpoint, name=evil, trained_on=evil, pair=evil)
    prediction = dataclasses.replace(
        analysis.prediction,
        checkpoint=info,
        warnings=(Notice('"><script>', evil),),
        evidence=Evidence(0.9, 0.8, 0.95, 0.9, 0.9, (evil,), 12),
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
