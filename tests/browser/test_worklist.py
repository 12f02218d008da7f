"""The studies of a session in a list: opened, compared, noted, found again after a reload, deleted; a test here."""

from __future__ import annotations

from pathlib import Path


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
    assert page.locator(".mm-kept .mm-heat-method, .mm-kept [data-view]").count() == 0
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
