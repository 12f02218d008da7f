"""The whole program as a user gets it: `python app.py`, the committed checkpoint, a browser.

Two studies, what the page says of every kind of study at both widths, the Model tab, the viewer.
"""

from __future__ import annotations

import base64
import importlib.resources
import json
import re
import sys
import time
from collections.abc import Iterator

import pytest
from live_server import ROOT, LiveServer
from test_accessibility import Inspector
from test_page import analyse, heatmaps, put, visible_text
from test_viewer import DRAWN

from covid_mm.ui.study.evidence import describe_evidence, read_evidence

pytestmark = pytest.mark.browser

META = ROOT / "checkpoints" / "densenet121-mobilenet" / "meta.json"
UNDETERMINED = ".mm-answer[data-label=undetermined]"


@pytest.fixture(scope="module")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """`python app.py` with the committed checkpoint, as a user starts it."""
    if not META.is_file():
        pytest.skip("no checkpoint in checkpoints/densenet121-mobilenet yet: train.py publishes it")
    command = [sys.executable, "app.py", "--port", "{port}"]
    running = LiveServer(tmp_path_factory.mktemp("real"), command)
    yield running.wait_until_open()
    running.stop()


@pytest.fixture
def open_real(revisit, real_server):
    """A page whose network may still be loading."""

    def opener(**options):
        page = revisit(at=real_server, **options)
        page.set_default_timeout(120_000)
        return page

    return opener


def codes(page) -> set[str]:
    return set(
        page.eval_on_selector_all(".mm-warnings [data-code]", "all => all.map(one => one.dataset.code)")
    )


def says_no_probability(page) -> bool:
    """Neither a figure, a bar, a threshold nor a map."""
    drawn = ".mm-figure, .mm-fill, .mm-threshold, .mm-operating, .mm-layer, .mm-heat, .mm-download"
    text = page.inner_text(".mm-answer") + page.inner_text(".mm-warnings")
    return page.locator(drawn).count() == 0 and "%" not in text


def test_two_studies_on_the_committed_checkpoint(real_server, open_real, studies):
    page = open_real()
    put(page, "ct", studies["ct0"])
    put(page, "xray", studies["xray0"])
    analyse(page)
    assert page.get_attribute(".mm-answer", "data-label") in ("normal", "covid19_pneumonia")
    first = page.eval_on_selector_all(".mm-stack:has(.mm-layer, .mm-none)", "s => s.map(e => e.innerHTML)")
    assert len(first) == 2
    text = visible_text(page)
    meta = json.loads(META.read_text())
    for fact in (
        "densenet121-mobilenet",
        meta["trained_at"][:10],
        meta["trained_on"],
        "CT alone",
        "X-ray alone",
    ):
        assert fact in text

    put(page, "ct", studies["ct1"])
    put(page, "xray", studies["xray1"])
    start = time.monotonic()
    analyse(page)
    assert time.monotonic() - start < 60  # about a second on two free cores
    second = page.eval_on_selector_all(".mm-stack:has(.mm-layer, .mm-none)", "s => s.map(e => e.innerHTML)")
    assert all(old != new for old, new in zip(first, second, strict=True))
    assert heatmaps(page), "neither image of a positive phantom shows evidence"
    assert "Traceback" not in real_server.log


def test_the_model_tab_has_no_grave_violation(real_server, open_page):
    page = open_page(at=real_server)
    page.get_by_role("tab").last.click()
    page.wait_for_selector("#mm-card .mm-roc")
    inspector = Inspector(page, (390, 1280))
    inspector.look("card")
    assert inspector.violations == {}


@pytest.mark.parametrize("width", [1280, 390])
def test_images_in_each_others_slot_are_noticed_by_what_they_show(open_real, studies, width):
    page = open_real(width=width)
    put(page, "ct", studies["xray0"])
    put(page, "xray", studies["ct0"])
    analyse(page)
    assert page.locator(UNDETERMINED).count() == 1
    assert codes(page) == {"swapped_inputs"}
    assert says_no_probability(page)
    assert page.locator("#mm-report-form").is_visible()  # a refusal can be reported too
    assert page.locator(".mm-view img").count() == 2  # what was given is still shown

    before = page.evaluate("window.covidMM.finishes")
    page.click(".mm-swap")
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
    assert page.locator(UNDETERMINED).count() == 0
    assert page.locator(".mm-figure").count() == 2
    assert page.locator(".mm-swap").count() == 0


def test_one_image_in_the_wrong_slot_is_moved_by_one_click(open_real, studies):
    page = open_real()
    put(page, "ct", studies["xray0"])
    analyse(page)
    assert codes(page) == {"wrong_modality_ct"}
    assert says_no_probability(page)
    before = page.evaluate("window.covidMM.finishes")
    page.click(".mm-swap")
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
    assert page.get_attribute(".mm-slot[data-modality=ct]", "data-state") == "empty"
    assert page.locator(UNDETERMINED).count() == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_a_holiday_photo_is_refused_with_the_reason(open_real, studies, width):
    picture = importlib.resources.files("gradio") / "media_assets" / "images" / "tower.jpg"
    page = open_real(width=width)
    with importlib.resources.as_file(picture) as path:
        put(page, "ct", studies["ct0"])
        put(page, "xray", path)
    analyse(page)
    assert page.locator(UNDETERMINED).count() == 1
    assert codes(page) == {"not_a_chest_image_xray"}
    assert page.locator('[data-code="not_a_chest_image_xray"]').is_visible()
    assert says_no_probability(page)
    assert page.locator(".mm-swap").count() == 0  # the other slot would not make it an X-ray
    status = page.inner_text("#mm-result .mm-sr")
    assert status
    assert "%" not in status


@pytest.mark.parametrize("modality", ["ct", "xray"])
def test_one_slot_empty_gives_that_modes_own_figures(open_real, studies, modality):
    page = open_real()
    put(page, modality, studies[f"{modality}0"])
    analyse(page)
    assert codes(page) == set()  # one image is no fault
    meta = json.loads(META.read_text())
    assert page.inner_text(".mm-evidence p >> nth=0") == describe_evidence(read_evidence(meta, modality))
    assert page.locator(".mm-independent").count() == 0
    assert page.locator(".mm-bar[data-branch=fused]").count() == 0
    assert page.locator(".mm-bar").count() == 1


@pytest.mark.parametrize("width", [1280, 390])
def test_a_damaged_file_is_one_sentence_and_the_next_study_is_answered(open_real, studies, width):
    page = open_real(width=width)
    put(page, "ct", studies["ct0"])
    put(page, "xray", studies["damaged"])
    analyse(page)
    assert page.locator(".mm-error p").count() == 1
    sentence = page.inner_text(".mm-error p")
    assert "truncated" in sentence
    assert str(studies["damaged"]) not in page.content()
    assert page.locator(".mm-answer").count() == 0
    put(page, "xray", studies["xray0"])
    analyse(page)
    assert page.locator(".mm-figure").count() == 2


def test_the_served_networks_maps_are_cells(open_real, studies):
    page = open_real()
    put(page, "ct", studies["ct1"])
    put(page, "xray", studies["xray1"])
    analyse(page)
    page.click(".mm-open-viewer")
    page.wait_for_function(DRAWN)
    sources = page.eval_on_selector_all(".mm-viewer-map-image", "images => images.map(image => image.src)")
    assert sources
    for source in sources:
        drawing = base64.b64decode(source.split(",")[1]).decode()
        widths = {round(float(width)) for width in re.findall(r' width="([\d.]+)"', drawing)} - {1000}
        lefts = {round(float(left)) for left in re.findall(r' x="([\d.]+)"', drawing)}
        assert 1 <= len(lefts) <= 10
        assert max(widths) - min(widths) <= 1  # all of one size
    page.select_option("[data-tool=map]", "lines")
    assert page.eval_on_selector_all(".mm-viewer-map-image", "images => images.every(i => i.complete)")
