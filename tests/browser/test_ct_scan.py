"""A whole CT scan in the browser: several files or a ZIP, progress and cancel, curve, slider, thumbnails, maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scan_files import HEAD, chest_hu, series_files, zip_files
from test_accessibility import Inspector
from test_page import analyse

pytestmark = pytest.mark.browser
SLOT = ".mm-slot[data-modality=ct]"
COUNT = 24


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, list[str]]:
    """A scan that grows brighter towards the head, as files in any order and in a ZIP with another series."""
    folder: Path = tmp_path_factory.mktemp("scan")
    volume = chest_hu(COUNT, 64)
    volume += (np.arange(COUNT) * 25).astype(np.int16)[:, None, None]
    volume[0] = -1400
    contents = series_files(volume)
    names = []
    for number in np.random.default_rng(0).permutation(COUNT):
        names.append(folder / f"I{len(names):03d}")
        names[-1].write_bytes(contents[number])
    head = {f"b/{n}": data for n, data in enumerate(series_files(chest_hu(3, 64, lungs=False), HEAD))}
    archive = folder / "scan.zip"
    archive.write_bytes(zip_files({f"a/{n}": data for n, data in enumerate(contents)} | head))
    return {"files": [str(name) for name in names], "zip": [str(archive)]}


def put_scan(page, paths: list[str]) -> None:
    page.set_input_files(f"{SLOT} .mm-slot-input", paths)
    page.wait_for_selector(f"{SLOT}[data-state=ready] .mm-slot-preview[src^='data:']")


def wait_for_map(page, before: int) -> None:
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
    page.wait_for_selector(".mm-view[data-modality=ct]:not(.mm-undrawn)")


@pytest.mark.parametrize(
    ("width", "dark", "locale"),
    [pytest.param(1280, False, "en-US", marks=pytest.mark.slow), (390, True, "id-ID")],
)
def test_files_of_a_scan_are_read_and_stepped_through(open_page, files, width, dark, locale):
    page = open_page(width=width, dark=dark, locale=locale)
    put_scan(page, files["files"])
    assert page.locator(f"{SLOT} .mm-slot-alone").is_visible()
    page.click("#mm-analyse")
    page.wait_for_selector(".mm-reading progress")
    page.wait_for_selector(".mm-series")
    series = page.locator(".mm-series")
    assert series.get_attribute("data-index") == str(COUNT - 1)
    assert page.locator(".mm-reading").count() == 0
    extent = page.inner_text(".mm-series-extent")
    assert "skor keparahan" in extent or "not a score of severity" in extent
    position = "-85,0 mm" if locale == "id-ID" else "-85.0 mm"
    assert position in series.inner_text()
    top, bottom, height = page.evaluate(
        """() => [document.querySelector("#mm-result").getBoundingClientRect().top,
          document.querySelector("#mm-result .mm-layer").getBoundingClientRect().bottom, window.innerHeight]"""
    )
    assert (
        bottom - top < (1.2 if width < 400 else 2) * height
    )  # the map is seen without paging through the rest
    image = ".mm-view[data-modality=ct] .mm-stack img:not(.mm-layer)"
    first = page.get_attribute(image, "src")

    before = page.evaluate("window.covidMM.finishes")
    slider = page.locator(".mm-series-slider")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    wait_for_map(page, before)
    assert series.get_attribute("data-index") == str(COUNT - 3)
    assert f"{COUNT - 2}" in slider.get_attribute("aria-valuetext")
    assert page.get_attribute(image, "src") != first
    assert page.get_attribute(".mm-view[data-modality=ct]", "data-slice") == str(COUNT - 3)
    assert not page.locator("#mm-result.mm-stale").count()

    before = page.evaluate("window.covidMM.finishes")
    box = page.locator(".mm-series-plot").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 8.5 / COUNT, box["y"] + 40)
    wait_for_map(page, before)
    assert series.get_attribute("data-index") == "8"
    before = page.evaluate("window.covidMM.finishes")
    page.mouse.wheel(0, 50)
    wait_for_map(page, before)
    assert series.get_attribute("data-index") == "9"
    before = page.evaluate("window.covidMM.finishes")
    page.locator(".mm-series-thumbnails button").nth(1).click()
    wait_for_map(page, before)
    assert page.locator(".mm-series-thumbnails button").nth(1).get_attribute("aria-current") == "true"
    slider.focus()
    page.keyboard.press("Home")  # air only: the picture, no map
    page.wait_for_function("() => document.querySelector('.mm-series').dataset.index === '0'")
    assert page.locator(".mm-view.mm-undrawn").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    inspector = Inspector(page)
    inspector.look("a scan")
    assert inspector.violations == {}


def test_a_folder_is_one_scan(open_page, files, tmp_path):
    """Chosen: slices in two folders, beside what viewers leave there; dropped: as a browser hands it over."""
    for number, path in enumerate(files["files"]):
        part = tmp_path / "study" / f"part{number % 2}"
        part.mkdir(parents=True, exist_ok=True)
        (part / Path(path).name).write_bytes(Path(path).read_bytes())
    damaged = Path(files["files"][0]).read_bytes()[:700]
    for name, content in (
        {"DICOMDIR": damaged, ".hidden": damaged, "notes.txt": b"text", "sr.dcm": damaged}
    ).items():
        (tmp_path / "study" / name).write_bytes(content)
    page = open_page()
    with page.expect_file_chooser() as chooser:
        page.click(f"{SLOT} .mm-slot-folder")
    chooser.value.set_files(str(tmp_path / "study"))
    page.wait_for_selector(f"{SLOT}[data-state=ready] .mm-slot-preview[src^='data:']")
    assert page.get_attribute(f"{SLOT} .mm-slot-slice", "max") == str(COUNT - 1)
    assert page.locator(f"{SLOT} .mm-slot-folder").is_hidden()
    analyse(page)
    assert page.get_attribute(".mm-series", "data-count") == str(COUNT)
    page.click("#mm-clear")

    page.wait_for_selector(f"{SLOT}[data-state=empty]")
    page.evaluate(
        """() => {
      const file = (name, content) => ({ isFile: true, name, file: (done) => done(new File([content], name)) });
      const folder = (name, ...children) => ({ isDirectory: true, name, createReader: () => {
        const parts = [children, []];
        return { readEntries: (done) => done(parts.shift()) };
      } });
      const entry = folder("a", file("x.txt", "text"), folder("b", file("c.png", "none")));
      const event = new Event("drop", { bubbles: true, cancelable: true });
      event.dataTransfer = { files: [], items: [{ webkitGetAsEntry: () => entry }] };
      document.querySelector(".mm-slot[data-modality=ct] .mm-slot-drop").dispatchEvent(event);
    }"""
    )
    page.wait_for_selector(f"{SLOT} .mm-slot-note:has-text('There is no scan in this folder')")


def test_a_zip_with_another_series_one_slice_alone_and_cancel(open_page, files):
    page = open_page()
    put_scan(page, files["zip"])
    assert f"{COUNT} slices" in page.locator(f"{SLOT} .mm-slot-series option").first.inner_text()
    slider = page.locator(f"{SLOT} .mm-slot-slice")
    slider.fill("5")
    page.click("#mm-analyse")
    page.wait_for_selector("#mm-stop-analysis", state="visible")
    page.evaluate(
        "document.querySelector('#mm-stop-analysis').click()"
    )  # at once: it is gone with the answer
    page.wait_for_function("() => !document.querySelector('#mm-result').matches('.mm-busy')")
    assert page.locator(".mm-series").count() == 0
    page.locator(f"{SLOT} .mm-slot-alone").check()
    analyse(page)
    assert page.locator(".mm-series").count() == 0
    assert page.locator(".mm-view[data-modality=ct]").count() == 1
    page.locator(f"{SLOT} .mm-slot-series").select_option("1")
    page.wait_for_function("where => document.querySelector(where).max === '2'", arg=f"{SLOT} .mm-slot-slice")
    page.wait_for_selector("#mm-result.mm-stale")
