"""A visitor who is faster than the server: what was asked last is what is shown in the end."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from test_evidence import choose
from test_page import analyse, heatmaps, put

sys.path.insert(0, str(Path(__file__).parents[1] / "imaging"))
from dicom_files import ct_slice, slice_hu

pytestmark = pytest.mark.browser

PREVIEW = ".mm-slot[data-modality=ct] .mm-slot-preview"
SHOWS = "([where, image]) => document.querySelector(where).getAttribute('src') === image"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A CT slice and a stack of three."""
    folder = tmp_path_factory.mktemp("hasty")
    stack = np.stack([np.zeros((64, 64), np.int16), slice_hu(64), np.full((64, 64), 900, np.int16)])
    for name, pixels in (("slice", slice_hu(64)), ("stack", stack)):
        (folder / name).write_bytes(ct_slice(pixels))
    return {path.name: path for path in folder.iterdir()}


def slow_down(page, milliseconds: int) -> None:
    """Let each request take that much longer."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    conditions = {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
    session.send("Network.emulateNetworkConditions", {**conditions, "latency": milliseconds})


def preview(page, path: Path) -> str:
    """Put a DICOM file into the CT slot; what the server draws of it."""
    page.click(".mm-slot[data-modality=ct] .mm-slot-remove", force=True)
    put(page, "ct", path)
    page.wait_for_selector(f"{PREVIEW}[src^='data:']")
    return page.get_attribute(PREVIEW, "src")


def test_the_preview_follows_the_last_of_many_movements(open_page, files):
    page = open_page()
    first = preview(page, files["stack"])
    page.get_by_label("CT slice: window", exact=True).select_option("mediastinum")
    page.wait_for_function(
        "([where, old]) => document.querySelector(where).src !== old", arg=[PREVIEW, first]
    )
    wanted = page.get_attribute(PREVIEW, "src")
    page.get_by_label("CT slice: window", exact=True).select_option("lung")
    page.wait_for_function(SHOWS, arg=[PREVIEW, first])

    slow_down(page, 400)
    page.locator(".mm-slot[data-modality=ct] .mm-slot-slice").fill("2")
    page.wait_for_timeout(150)  # the server is asked, and has not answered
    page.locator(".mm-slot[data-modality=ct] .mm-slot-slice").fill("1")
    page.get_by_label("CT slice: window", exact=True).select_option("mediastinum")
    page.wait_for_function(SHOWS, arg=[PREVIEW, wanted])


def test_a_replaced_file_never_shows_in_its_successors_slot(open_page, files):
    page = open_page()
    wanted = preview(page, files["slice"])
    page.click(".mm-slot[data-modality=ct] .mm-slot-remove")
    page.evaluate(
        "where => { window.seen = []; new MutationObserver(() => window.seen.push("
        "document.querySelector(where).getAttribute('src'))).observe(document.querySelector(where),"
        " { attributes: true, attributeFilter: ['src'] }) }",
        PREVIEW,
    )
    slow_down(page, 400)
    put(page, "ct", files["stack"])  # its upload has arrived, its preview has been asked for
    page.wait_for_timeout(100)
    put(page, "ct", files["slice"])
    page.wait_for_function(SHOWS, arg=[PREVIEW, wanted])
    drawn = page.evaluate("window.seen.filter(source => source && source.startsWith('data:'))")
    assert set(drawn) == {wanted}
    assert page.locator(".mm-slot[data-modality=ct] .mm-slot-slices").is_hidden()  # it has one slice only


def test_the_maps_are_those_of_the_last_choice(open_page, studies):
    page = open_page()
    put(page, "ct", studies["bright"])
    analyse(page)
    choose(page, "target", "normal")
    choose(page, "method", "layer_cam")
    wanted = heatmaps(page)
    choose(page, "target", "covid19_pneumonia")
    choose(page, "method", "grad_cam")

    slow_down(page, 300)
    page.select_option(".mm-heat-target", "normal")
    page.wait_for_timeout(100)
    page.select_option(".mm-heat-method", "layer_cam")
    page.wait_for_function(
        "wanted => JSON.stringify([...document.querySelectorAll('.mm-layer:not([hidden])')].map(e => e.src))"
        " === JSON.stringify(wanted)",
        arg=wanted,
    )
    assert "Layer-CAM" in page.inner_text(".mm-map-caption >> nth=0")
    page.wait_for_function("document.querySelector('.mm-heat-cancel').hidden")
    assert page.input_value(".mm-heat-method") == "layer_cam"
    assert page.input_value(".mm-heat-target") == "normal"


def test_images_changed_during_an_analysis_are_analysed_after_it(open_page, studies):
    page = open_page()
    put(page, "ct", studies["bright"])
    put(page, "xray", studies["xray1"])
    slow_down(page, 400)
    page.click("#mm-analyse")
    page.click("#mm-analyse")  # nothing has changed: not another analysis
    page.click(".mm-slot[data-modality=xray] .mm-slot-remove")
    page.click("#mm-analyse")
    assert page.evaluate("window.covidMM.finishes") == 0  # the first is still under way
    page.wait_for_function("window.covidMM.finishes >= 2")
    assert page.locator(".mm-view").count() == 1
    page.wait_for_timeout(1500)
    assert page.evaluate("window.covidMM.finishes") == 2
    assert page.locator(".mm-stale-note").is_hidden()
