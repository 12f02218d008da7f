"""DICOM in the browser: preview, windows, slices, files in the wrong slot."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from test_page import analyse, put, slow_down

sys.path.insert(0, str(Path(__file__).parents[1] / "imaging"))
from dicom_files import ct_slice, film, slice_hu

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A CT slice, a stack of three, a film, and a file cut short."""
    folder = tmp_path_factory.mktemp("dicom")
    stack = np.stack([np.zeros((64, 64), np.int16), slice_hu(64), np.full((64, 64), 900, np.int16)])
    pixels = np.tile(np.arange(0, 4096, 32, dtype=np.uint16), (128, 1))
    contents = {
        "slice": ct_slice(slice_hu(64)),
        "stack": ct_slice(stack),
        "film": film(pixels, WindowCenter=2048, WindowWidth=4096),
        "short": ct_slice(slice_hu(64))[:-3000],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)  # without an ending, as scanners write them
    return {name: folder / name for name in contents}


def slot(modality: str) -> str:
    return f".mm-slot[data-modality={modality}]"


def put_dicom(page, modality: str, path: Path) -> str:
    """Choose a file and wait for the server's preview; its address."""
    page.set_input_files(f"{slot(modality)} .mm-slot-input", str(path))
    page.wait_for_selector(f"{slot(modality)}[data-state=ready] .mm-slot-preview[src^='data:']")
    return page.get_attribute(f"{slot(modality)} .mm-slot-preview", "src")


@pytest.mark.parametrize("width", [1280, 390])
def test_two_dicom_files_are_answered_through_the_chosen_window(revisit, files, width):
    page = revisit(width=width)
    lung = put_dicom(page, "ct", files["slice"])
    put_dicom(page, "xray", files["film"])
    analyse(page)
    assert page.locator(".mm-view").count() == 2
    before = page.get_attribute(".mm-view[data-modality=ct] img", "src")
    assert "ZZPHI" not in page.content()

    page.get_by_label("CT slice: window", exact=True).select_option("mediastinum")
    page.wait_for_function(
        "([where, old]) => document.querySelector(where).src !== old",
        arg=[f"{slot('ct')} .mm-slot-preview", lung],
    )
    page.wait_for_selector("#mm-result.mm-stale")
    analyse(page)
    assert page.get_attribute(".mm-view[data-modality=ct] img", "src") != before


def test_free_levels_and_slices_render_at_once(page, files):
    first = put_dicom(page, "ct", files["stack"])
    assert page.input_value(f"{slot('ct')} .mm-slot-slice") == "1"  # the one with lung
    changed = "([where, old]) => document.querySelector(where).src !== old"
    preview = f"{slot('ct')} .mm-slot-preview"
    page.locator(f"{slot('ct')} .mm-slot-slice").fill("2")
    page.wait_for_function(changed, arg=[preview, first])
    assert "3 of 3" in page.inner_text(f"{slot('ct')} .mm-slot-slices")
    second = page.get_attribute(preview, "src")
    page.locator(f"{slot('ct')} .mm-slot-slice").fill("1")
    page.get_by_label("CT slice: window", exact=True).select_option("free")
    page.locator(f"{slot('ct')} .mm-slot-level").fill("200")
    page.wait_for_function(changed, arg=[preview, second])
    page.wait_for_function(changed, arg=[preview, first])
    analyse(page)
    assert page.locator(".mm-answer").count() == 1


def test_the_preview_follows_the_last_of_many_movements(open_page, files):
    page = open_page()
    preview = f"{slot('ct')} .mm-slot-preview"
    window = page.get_by_label("CT slice: window", exact=True)
    shows = "([where, image]) => document.querySelector(where).getAttribute('src') === image"
    first = put_dicom(page, "ct", files["stack"])
    window.select_option("mediastinum")
    page.wait_for_function(
        "([where, old]) => document.querySelector(where).src !== old", arg=[preview, first]
    )
    expected = page.get_attribute(preview, "src")
    window.select_option("lung")
    page.wait_for_function(shows, arg=[preview, first])

    slow_down(page, 400)
    page.locator(f"{slot('ct')} .mm-slot-slice").fill("2")
    page.wait_for_timeout(150)  # the server is asked, and has not answered
    page.locator(f"{slot('ct')} .mm-slot-slice").fill("1")
    window.select_option("mediastinum")
    page.wait_for_function(shows, arg=[preview, expected])


def test_a_replaced_file_never_shows_in_its_successors_slot(open_page, files):
    page = open_page()
    preview = f"{slot('ct')} .mm-slot-preview"
    expected = put_dicom(page, "ct", files["slice"])
    page.click(f"{slot('ct')} .mm-slot-remove")
    page.evaluate(
        "where => { window.seen = []; new MutationObserver(() => window.seen.push("
        "document.querySelector(where).getAttribute('src'))).observe(document.querySelector(where),"
        " { attributes: true, attributeFilter: ['src'] });"
        " const slot = window.covidMM.slots.ct, ask = slot.ask; window.asked = [];"
        " slot.ask = () => { window.asked.push(ask()[1].turn); return ask(); } }",
        preview,
    )
    slow_down(page, 400)
    put(page, "ct", files["stack"])
    page.wait_for_function("window.asked.length === 1")  # the server is asked, and has not answered
    assert put_dicom(page, "ct", files["slice"]) == expected
    page.evaluate(  # the answer to the first, as late as can be
        "window.covidMM.slots.ct.show({ turn: window.asked[0], url: 'data:,', frames: 3, frame: 1,"
        " windows: ['lung'], range: [0, 1] })"
    )
    drawn = page.evaluate("window.seen.filter(source => source && source.startsWith('data:'))")
    assert set(drawn) == {expected}
    assert page.locator(f"{slot('ct')} .mm-slot-slices").is_hidden()  # it has one slice only


def test_files_in_each_others_slot_are_swapped_by_one_click(page, files):
    put_dicom(page, "xray", files["slice"])
    put_dicom(page, "ct", files["film"])
    analyse(page)
    assert page.get_attribute(".mm-answer", "data-label") == "undetermined"
    assert page.locator('[data-code="swapped_inputs"]').is_visible()
    assert "%" not in page.inner_text(".mm-answer-head")
    before = page.evaluate("window.covidMM.finishes")
    page.get_by_role("button", name="Swap and analyse again").click()
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
    assert page.get_attribute(".mm-answer", "data-label") != "undetermined"


def test_one_file_in_the_wrong_slot_is_moved_by_one_click(page, files):
    put_dicom(page, "xray", files["slice"])
    analyse(page)
    assert page.locator('[data-code="modality_mismatch_xray"]').is_visible()
    before = page.evaluate("window.covidMM.finishes")
    page.click(".mm-swap")
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
    assert page.get_attribute(slot("xray"), "data-state") == "empty"
    assert page.get_attribute(".mm-answer", "data-label") != "undetermined"


def test_a_file_cut_short_is_one_sentence(page, files):
    page.set_input_files(f"{slot('ct')} .mm-slot-input", str(files["short"]))
    page.wait_for_function(
        "where => document.querySelector(where).innerText.includes('truncated')",
        arg=f"{slot('ct')} .mm-slot-note",
    )
    analyse(page)
    assert "truncated" in page.inner_text(".mm-error")
    put(page, "ct", files["slice"])
    analyse(page)
    assert page.locator(".mm-answer").count() == 1


def test_several_files_that_are_no_series_are_one_sentence(page, files, tmp_path):
    (tmp_path / "note.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    page.set_input_files(f"{slot('ct')} .mm-slot-input", [str(files["slice"]), str(tmp_path / "note.png")])
    page.wait_for_selector(f"{slot('ct')}[data-state=broken]")
    page.wait_for_function(
        f"() => document.querySelector(\"{slot('ct')} .mm-slot-note\").textContent.includes('not DICOM')"
    )
