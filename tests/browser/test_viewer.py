"""The viewer: full resolution, window, slices, map and keys, with the mouse, by keyboard and by touch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_page import analyse, put

sys.path.insert(0, str(Path(__file__).parents[1] / "imaging"))
from dicom_files import ct_slice, slice_hu

pytestmark = pytest.mark.browser

OSD = "OpenSeadragon.getViewer(document.querySelector('.mm-pane-image'))"
DRAWN = """() => [...document.querySelectorAll('.mm-pane')]
  .every((pane) => pane.dataset.note === '' && pane.dataset.drawn)"""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A film of 2,400 pixels with a step from 100 to 140 in the middle, and a stack of 12 slices."""
    folder = tmp_path_factory.mktemp("viewer")
    pixels = np.full((2400, 2000), 100, np.uint8)
    pixels[:, 1000:] = 140
    pixels[::40] = 90
    Image.fromarray(pixels).save(folder / "film.png")
    stack = np.stack([slice_hu(64) + 15 * k for k in range(12)]).astype(np.int16)
    (folder / "stack").write_bytes(ct_slice(stack))
    return {"film": folder / "film.png", "stack": folder / "stack"}


def open_viewer(page, modality: str = "ct"):
    """Open it from a slot, and wait until each pane shows the full resolution."""
    page.click(f".mm-slot-view[data-view={modality}]")
    page.wait_for_selector(".mm-viewer[open] .mm-pane")
    page.wait_for_function(DRAWN)
    return page.locator(".mm-viewer")


def test_a_film_of_2400_pixels_is_seen_before_and_after_the_answer(open_page, files):
    page = open_page()
    scripts: list[str] = []
    page.on(
        "request", lambda request: scripts.append(request.url) if "viewer-scripts" in request.url else None
    )
    put(page, "xray", files["film"])
    assert scripts == []  # nothing of it is loaded before it is opened
    viewer = open_viewer(page, "xray")
    assert [url.rsplit("/", 1)[1] for url in scripts] == [
        "openseadragon.min.js", "viewer.js", "film.js", "pane.js",
    ]  # fmt: skip
    assert "with map" not in viewer.inner_text()
    size = f"() => {OSD}.world.getItemAt(0).getContentSize().y"
    assert page.evaluate(size) == 2400
    page.keyboard.press("Escape")
    page.wait_for_selector(".mm-viewer", state="hidden")
    analyse(page)
    page.click(".mm-open-viewer")
    page.wait_for_function(DRAWN)
    assert page.evaluate(size) == 2400
    assert viewer.locator(".mm-viewer-map-image:visible").count() == 1
