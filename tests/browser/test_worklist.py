"""The studies of a session in a list: opened, compared, noted, found again after a reload, deleted; a test here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scan_files import chest_hu, series_files


def analyse(page, files: dict[str, Path]) -> None:
    before = page.evaluate("window.covidMM.finishes")
    for modality, path in files.items():
        page.set_input_files(f".mm-slot[data-modality={modality}] .mm-slot-input", str(path))
    page.click("#mm-analyse")
    page.wait_for_function(f"window.covidMM.finishes > {before}")


def count_rows(page, count: int) -> None:
    page.wait_for_function(f"document.querySelectorAll('.mm-worklist-row').length === {count}")


def test_a_sessions_studies_are_kept_opened_compared_and_deleted(open_page, studies):
    page = open_page()
    analyse(page, {"ct": studies["ct0"], "xray": studies["xray0"]})
    analyse(page, {"ct": studies["ct1"], "xray": studies["xray1"]})
    count_rows(page, 2)
    page.focus(".mm-worklist-row:last-child .mm-worklist-study")
    page.keyboard.press("Enter")
    page.wait_for_selector(".mm-kept h2")
    assert page.evaluate("document.activeElement.textContent") == "Study 1"
    assert page.locator("#mm-result").is_hidden()
    assert page.locator(".mm-kept .mm-swap").count() == 0
    page.fill(".mm-kept-note", "seen twice")
    page.locator(".mm-kept-note").blur()
    page.wait_for_selector(".mm-worklist-notes:has-text('seen twice')")
    with page.expect_download() as saved:
        page.click(".mm-kept-report[data-format=json]")
    assert '"note": "seen twice"' in Path(saved.value.path()).read_text()
    page.select_option(".mm-kept-compare", "2")
    page.wait_for_selector(".mm-comparison")
    assert page.locator(".mm-compared-heads tbody tr").count() == 3
    page.click(".mm-kept-close")
    assert page.locator("#mm-result").is_visible()
    page.fill(".mm-worklist-search", "twice")
    count_rows(page, 1)
    page.reload()
    count_rows(page, 2)
    with page.expect_download() as saved:
        page.click(".mm-worklist-archive[data-format=json]")
    assert saved.value.suggested_filename == "study-reports-json.zip"
    page.locator(".mm-worklist-remove").first.click()
    count_rows(page, 1)
    for _ in range(2):  # the second press is meant
        page.click(".mm-worklist-clear")
    count_rows(page, 0)


def test_a_study_of_the_list_is_read_as_one_of_the_slots(open_page, studies, tmp_path):
    """Its files are there when the slots are empty: viewer, another method, another slice; in a batch's row too."""
    volume = chest_hu(6, 640) + (np.arange(6) * 60).astype(np.int16)[:, None, None]
    paths = [tmp_path / f"I{number}" for number in range(len(volume))]
    for path, data in zip(paths, series_files(volume), strict=True):
        path.write_bytes(data)
    page = open_page()
    page.set_input_files(".mm-slot[data-modality=ct] .mm-slot-input", [str(path) for path in paths])
    page.wait_for_selector(".mm-slot[data-modality=ct][data-state=ready] .mm-slot-preview[src^='data:']")
    page.click("#mm-analyse")
    page.wait_for_selector("#mm-result .mm-series")
    count_rows(page, 1)
    page.click("#mm-clear")
    page.wait_for_selector("#mm-result .mm-empty")
    page.click(".mm-worklist-study")
    page.wait_for_selector(".mm-kept .mm-series")
    layer = ".mm-kept .mm-view[data-modality=ct] .mm-layer"

    before, drawn = page.evaluate("window.covidMM.finishes"), page.get_attribute(layer, "src")
    page.select_option(".mm-kept .mm-heat-method", "layer_cam")
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
    assert page.get_attribute(layer, "src") != drawn
    before = page.evaluate("window.covidMM.finishes")
    page.locator(".mm-kept .mm-series-slider").fill("3")
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
    page.wait_for_selector(".mm-kept .mm-view[data-slice='2']:not(.mm-undrawn)")
    page.locator(".mm-kept .mm-open-viewer").click()
    page.wait_for_selector(".mm-viewer[open] .mm-pane")
    page.wait_for_function("document.querySelector('.mm-viewer .mm-pane-note')?.textContent === ''")
    widths = page.eval_on_selector_all(
        ".mm-viewer .mm-pane-image",
        "panes => panes.map(pane => Math.min(pane.clientWidth, pane.clientHeight) / 640)",
    )
    zooms = page.eval_on_selector_all(
        ".mm-viewer .mm-pane-zoom", "all => all.map(one => parseInt(one.value) / 100)"
    )
    assert zooms == pytest.approx(widths, abs=0.02)  # fitted into the pane, at the first opening too
    assert page.locator(".mm-viewer .mm-pane-slices output").first.inner_text().startswith("3")
    page.keyboard.press("Escape")
    with page.expect_download() as saved:
        page.click(".mm-kept .mm-download")
    assert Image.open(saved.value.path()).size == (640, 640)
    page.click(".mm-kept-close")

    page.get_by_role("tab", name="Many studies").click()
    folder = tmp_path / "batch"
    folder.mkdir()
    (folder / "a_xray.png").write_bytes(studies["xray0"].read_bytes())
    page.set_input_files(".mm-batch-input", str(folder / "a_xray.png"))
    page.click("#mm-batch-run")
    page.click(".mm-batch-open")
    page.wait_for_selector(".mm-kept .mm-heat-method")
    before = page.evaluate("window.covidMM.finishes")
    page.select_option(".mm-kept .mm-heat-target", "normal")
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
    assert "normal" in page.inner_text(".mm-kept .mm-scale small").lower()


def test_labelled_studies_stand_on_their_own_tab(open_page, studies, tmp_path):
    page = open_page(width=1280)
    manifest = tmp_path / "list.csv"
    manifest.write_text("study,xray,label\na,xray0.png,normal\nb,xray1.png,covid19_pneumonia\n")
    page.get_by_role("tab", name="Many studies").click()
    files = [manifest, studies["xray0"], studies["xray1"]]
    page.set_input_files(".mm-batch-input", [str(path) for path in files])
    page.click("#mm-batch-run")
    page.wait_for_selector(".mm-batch-message:has-text('Test it here first')")
    page.get_by_role("tab", name="Test it here first").click()
    page.wait_for_selector(".mm-own-figures")
    assert "X-ray alone, tested here" in page.inner_text(".mm-own-figures")
    with page.expect_download() as saved:
        page.click(".mm-own-save[data-format=pdf]")
    assert Path(saved.value.path()).read_bytes().startswith(b"%PDF")
