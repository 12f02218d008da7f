"""The report as a user gets it: a note typed, a file downloaded, its text read back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fake_predictor import INFO
from pypdf import PdfReader
from test_page import analyse, put

from covid_mm.config import RESEARCH_USE

pytestmark = pytest.mark.browser

MARK = "ZZPHI"  # in the files' names
NOTE = "Ten days of fever; control in two weeks.\nSecond line: ganz getrennt."


@pytest.fixture
def named(studies, tmp_path) -> dict[str, Path]:
    """Two images under names that must not come back."""
    copies = {}
    for modality, study in (("ct", "ct1"), ("xray", "xray1")):
        copies[modality] = tmp_path / f"{MARK}-Siti-1975-{modality}.png"
        shutil.copy(studies[study], copies[modality])
    return copies


def download(page, kind: str, into: Path) -> Path:
    """Press a report button; the file."""
    before = page.evaluate("window.covidMM.finishes")
    with page.expect_download() as caught:
        page.click(f".mm-report-button[data-format={kind}]")
    path = into / caught.value.suggested_filename
    caught.value.save_as(path)
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
    return path


def squeeze(text: str) -> str:
    """Without white space: a PDF breaks lines where it likes."""
    return "".join(text.split())


@pytest.mark.parametrize("width", [1280, 390])
def test_the_pdf_holds_the_note_the_answer_and_no_name(revisit, named, tmp_path, width):
    page = revisit(width=width)
    assert not page.locator("#mm-report-form").is_visible()  # nothing to report yet
    for modality, path in named.items():
        put(page, modality, path)
    analyse(page)
    page.fill(".mm-note", NOTE)
    path = download(page, "pdf", tmp_path)
    assert path.name == "study-report.pdf"

    reader = PdfReader(path)
    text = "".join(squeeze(sheet.extract_text()) for sheet in reader.pages)
    answer = page.inner_text(".mm-label")
    for part in (NOTE, answer, RESEARCH_USE, INFO.name, INFO.sha256, "AUC 0.93", "sensitivity 87 %"):
        assert squeeze(part) in text, part
    for value in page.locator(".mm-bar .mm-value b").all_inner_texts():
        assert squeeze(value) in text, value  # together, CT alone, X-ray alone: as on the page
    assert 1 <= len(reader.pages) <= 2
    assert sum(len(sheet.images) for sheet in reader.pages) >= 4
    assert MARK not in text
    assert MARK not in str(reader.metadata)
    assert MARK.encode() not in path.read_bytes()
    assert page.inner_text(".mm-report-status") == ""


def test_the_json_is_the_same_study(page, named, tmp_path):
    for modality, path in named.items():
        put(page, modality, path)
    analyse(page)
    page.fill(".mm-note", NOTE)
    path = download(page, "json", tmp_path)
    assert path.name == "study-report.json"
    result = json.loads(path.read_text())
    assert result["note"] == NOTE
    assert result["label"] == page.get_attribute(".mm-answer", "data-label")
    assert result["checkpoint"]["sha256"] == INFO.sha256
    for modality in ("ct", "xray"):
        shown = page.get_attribute(f".mm-view[data-modality={modality}] img", "src")
        assert result["images"][modality] == shown
    assert MARK not in path.read_text()


def test_the_report_draws_the_maps_that_are_shown(page, named, tmp_path):
    put(page, "ct", named["ct"])
    analyse(page)
    plain = json.loads(download(page, "json", tmp_path).read_text())
    before = page.evaluate("window.covidMM.finishes")
    page.select_option(".mm-heat-method", "layer_cam")
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
    other = json.loads(download(page, "json", tmp_path).read_text())
    assert (plain["heatmap_method"], other["heatmap_method"]) == ("Grad-CAM", "Layer-CAM")
    assert plain["heatmaps"]["ct"] != other["heatmaps"]["ct"]


def test_a_note_that_is_too_long_is_one_sentence(page, named):
    put(page, "ct", named["ct"])
    analyse(page)
    page.fill(".mm-note", "line\n" * 30)
    page.click(".mm-report-button[data-format=pdf]")
    page.wait_for_function("document.querySelector('.mm-report-status').textContent.length > 1")
    assert "30" in page.inner_text(".mm-report-status") or "20" in page.inner_text(".mm-report-status")
