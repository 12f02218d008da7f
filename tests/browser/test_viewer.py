"""The viewer: full resolution, window, slices, map and keys, with the mouse, by keyboard and by touch."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from dicom_files import ct_slice, slice_hu
from PIL import Image
from scan_files import chest_hu, nifti_file
from test_accessibility import GRAVE
from test_page import analyse, put

pytestmark = pytest.mark.browser

OSD = "OpenSeadragon.getViewer(document.querySelector('.mm-pane-image'))"
DRAWN = """() => document.querySelector('.mm-viewer[open] .mm-pane')
  && [...document.querySelectorAll('.mm-pane')].every((pane) => pane.dataset.note === '' && pane.dataset.drawn)"""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A film of 2,400 pixels with a step from 100 to 140 in the middle, and a stack of 12 slices."""
    folder = tmp_path_factory.mktemp("viewer")
    pixels = np.full((2400, 2000), 100, np.uint8)
    pixels[:, 1000:] = 140
    Image.fromarray(pixels).save(folder / "film.png")
    stack = np.stack([slice_hu(64) + 15 * k for k in range(12)]).astype(np.int16)
    (folder / "stack").write_bytes(ct_slice(stack))
    return {"film": folder / "film.png", "stack": folder / "stack"}


def open_viewer(page, modality: str = "ct") -> None:
    """Open it from a slot, and wait until each pane shows the full resolution."""
    page.click(f".mm-slot-view[data-view={modality}]")
    page.wait_for_function(DRAWN)


def look_at(page, x: float, y: float, row: int = 0) -> int:
    """The grey that is seen in a pane, at shares of its image's area."""
    box = page.locator(".mm-pane-image").nth(row).bounding_box()
    clip = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "width": 1, "height": 1}
    with Image.open(BytesIO(page.screenshot(clip=clip))) as picture:
        return int(np.asarray(picture.convert("L"))[0, 0])


def shown(page, part: str, row: int = 0) -> str:
    return page.locator(f".mm-pane-{part}").nth(row).inner_text()


def measure_zoom(page) -> float:
    return page.evaluate(f"{OSD}.viewport.getZoom()")


def count_maps(page) -> int:
    return page.locator(".mm-viewer-map-image:visible").count()


def inspect(page, result: dict[str, list[str]], state: str) -> None:
    """axe-core; what it finds goes into `result`."""
    for rule in Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]:
        if rule["impact"] in GRAVE:
            nodes = [f"{node['html'][:120]} {node['failureSummary'][:200]}" for node in rule["nodes"]]
            result[f"{state}: {rule['id']}"] = nodes


def test_a_film_of_2400_pixels_is_seen_before_and_after_the_answer(open_page, files):
    page = open_page()
    scripts: list[str] = []
    page.on(
        "request", lambda request: scripts.append(request.url) if "viewer-scripts" in request.url else None
    )
    put(page, "xray", files["film"])
    assert scripts == []  # nothing of it is loaded before it is opened
    open_viewer(page, "xray")
    names = {url.rsplit("/", 1)[1] for url in scripts}
    assert names == {"openseadragon.min.js", "viewer.js", "film.js", "pane.js"}
    assert page.locator(".mm-viewer-map").is_hidden()  # no answer yet
    size = f"() => {OSD}.world.getItemAt(0).getContentSize().y"
    assert page.evaluate(size) == 2400
    assert abs(look_at(page, 0.42, 0.5) - 100) <= 2
    assert abs(look_at(page, 0.58, 0.5) - 140) <= 2

    page.keyboard.press("i")
    assert abs(look_at(page, 0.42, 0.5) - 155) <= 2
    assert page.get_attribute("[data-tool=invert]", "aria-pressed") == "true"
    for _ in range(10):
        page.keyboard.press("Shift+ArrowLeft")  # a narrower window about the same level
    assert shown(page, "grey") == "Level 128, width 204"
    assert abs(look_at(page, 0.42, 0.5) - (255 - (100 - 25.5) / 204 * 255)) <= 3
    page.keyboard.press("r")
    assert shown(page, "grey") == "Level 128, width 255"
    assert abs(look_at(page, 0.42, 0.5) - 100) <= 2

    before = measure_zoom(page)
    page.keyboard.press("1")
    page.wait_for_function("document.querySelector('.mm-pane-zoom').value === '100 %'")
    page.keyboard.press("0")
    page.wait_for_function(f"before => Math.abs({OSD}.viewport.getZoom(true) - before) < 1e-3", arg=before)
    page.keyboard.press("Escape")
    page.wait_for_selector(".mm-viewer", state="hidden")
    assert page.evaluate("document.activeElement.matches('.mm-slot-view')")  # where one came from

    analyse(page)
    page.click(".mm-view .mm-frame >> nth=1")
    page.wait_for_function(DRAWN)
    assert page.evaluate(size) == 2400
    assert count_maps(page) == 1
    assert page.evaluate("document.querySelector('.mm-viewer').scrollWidth") <= 1280
    page.keyboard.press("Escape")

    page.click("#mm-clear")
    page.click(".mm-worklist-row button >> nth=0")  # the session's list has kept the file
    page.click(".mm-kept .mm-open-viewer")
    page.wait_for_function(DRAWN)
    page.wait_for_function(f"{size} === 2400")


def test_a_stack_is_gone_through_and_seen_anew_through_other_windows(open_page, files):
    page = open_page()
    put(page, "ct", files["stack"])
    page.wait_for_selector(".mm-slot[data-modality=ct] .mm-slot-dicom:not([hidden])")
    analyse(page)
    page.evaluate(
        "window.heard = []; document.addEventListener('mm-slice', (event) => heard.push(event.detail.index))"
    )
    open_viewer(page)
    first = int(page.input_value(".mm-pane-slices input"))
    assert count_maps(page) == 1
    second = first + 1 if first < 11 else first - 1
    drawn = "slice => document.querySelector('.mm-pane').dataset.drawn === `${slice}`"
    page.hover(".mm-pane-image")
    page.mouse.wheel(0, 100 * (second - first))
    page.wait_for_function(drawn, arg=second)
    assert count_maps(page) == 0  # it is another slice's
    page.keyboard.press("Home")
    page.wait_for_function(drawn, arg=0)
    assert shown(page, "slices") == "1 of 12"
    assert page.evaluate("heard.at(-1)") == 0
    page.evaluate("slice => window.covidMM.viewer.show('ct', slice)", first)
    page.wait_for_function(drawn, arg=first)

    # lung window: -600, 1500; dragged, then drawn anew by the server
    assert shown(page, "grey") == "Level -600, width 1500"
    page.click("[data-tool=grey]")
    box = page.locator(".mm-pane-image").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y - 50, steps=6)
    page.mouse.up()
    assert page.evaluate("document.querySelector('.mm-viewer-filters feFuncR').getAttribute('slope')") != "1"
    seen, dragged = look_at(page, 0.9, 0.3), shown(page, "grey")
    assert dragged != "Level -600, width 1500"
    page.wait_for_function(
        "document.querySelector('.mm-viewer-filters feFuncR').getAttribute('slope') === '1'"
    )
    assert page.input_value(".mm-pane-window") == "free"
    assert shown(page, "grey") == dragged
    page.wait_for_timeout(300)
    assert abs(look_at(page, 0.9, 0.3) - seen) <= 2  # finer, and no other window
    page.select_option(".mm-pane-window", "mediastinum")
    page.wait_for_function("document.querySelector('.mm-pane-grey').value === 'Level 40, width 400'")

    # a stack of somebody else's pictures in the same pane
    page.keyboard.press("Escape")
    page.evaluate("""() => window.covidMM.viewer.setStack('ct', 3, async (k) => {
      const canvas = Object.assign(document.createElement('canvas'), { width: 40, height: 40 });
      const pen = canvas.getContext('2d');
      pen.fillStyle = `rgb(${60 * k + 60} ${60 * k + 60} ${60 * k + 60})`;
      pen.fillRect(0, 0, 40, 40);
      return canvas.toDataURL();
    }, 1)""")
    open_viewer(page)
    assert shown(page, "slices") == "2 of 3"
    page.keyboard.press("PageDown")
    page.wait_for_function("document.querySelector('.mm-pane').dataset.drawn === '2'")
    page.keyboard.press("m")
    page.keyboard.press("m")  # without the map
    page.wait_for_timeout(300)
    assert abs(look_at(page, 0.5, 0.5) - 180) <= 2


def test_in_a_scan_the_map_of_the_slice_at_which_one_rests_is_drawn(open_page, tmp_path):
    (tmp_path / "scan").write_bytes(
        nifti_file((chest_hu(10, 64) + 30 * np.arange(10)[:, None, None]).astype(np.int16))
    )
    page = open_page()
    page.set_input_files(".mm-slot[data-modality=ct] .mm-slot-input", str(tmp_path / "scan"))
    page.wait_for_selector(".mm-slot[data-modality=ct][data-state=ready] .mm-slot-dicom:not([hidden])")
    analyse(page)
    page.wait_for_selector(".mm-series")
    page.click(".mm-open-viewer")
    page.wait_for_function(DRAWN)
    first = int(page.input_value(".mm-pane-slices input"))
    assert first == int(page.get_attribute(".mm-series", "data-index"))  # the slice that the result shows
    assert count_maps(page) == 1
    layer = page.get_attribute(".mm-viewer-map-image", "src")
    other = first - 1 if first else first + 1
    page.keyboard.press("PageUp" if first else "PageDown")
    page.wait_for_function(f"document.querySelector('.mm-pane').dataset.drawn === '{other}'")
    assert shown(page, "note", 1) in (
        f"The map belongs to slice {first + 1}.",
        "There is no map of this slice yet.",
    )
    assert count_maps(page) == 0
    page.wait_for_selector(".mm-viewer-map-image:visible")
    assert shown(page, "note", 1) == ""
    assert page.get_attribute(".mm-viewer-map-image", "src") != layer
    assert int(page.get_attribute(".mm-series", "data-index")) == other


@pytest.mark.parametrize(("width", "locale"), [(1280, "en-US"), (390, "id-ID")])
def test_by_keyboard_alone_with_both_images_and_axe(open_page, studies, width, locale):
    """Light in English on a desk, dark in Indonesian on a phone."""
    page = open_page(width=width, dark=width == 390, locale=locale)
    put(page, "ct", studies["bright"])
    put(page, "xray", studies["xray1"])
    analyse(page)
    results: dict[str, list[str]] = {}
    page.focus(".mm-open-viewer")
    page.keyboard.press("Enter")
    page.wait_for_function(DRAWN)
    assert page.locator(".mm-pane").count() == 2
    assert page.evaluate("document.activeElement.matches('.mm-pane .openseadragon-canvas')")
    inspect(page, results, "two panes")

    page.keyboard.press("?")
    page.wait_for_selector(".mm-viewer-keys")
    keys = page.locator(".mm-viewer-keys kbd").all_inner_texts()
    assert {"I", "R", "L", "F", "M", "O", "?", "Esc"} <= set(keys)
    inspect(page, results, "keys")
    page.keyboard.press("Escape")
    assert page.locator(".mm-viewer-keys").is_hidden()
    assert page.evaluate("document.querySelector('.mm-viewer').open")

    assert count_maps(page) == 2
    page.keyboard.down("Space")
    assert count_maps(page) == 0
    page.keyboard.up("Space")
    assert count_maps(page) == 2
    cells = page.get_attribute(".mm-viewer-map-image", "src")
    page.keyboard.press("m")
    lines = page.get_attribute(".mm-viewer-map-image", "src")
    assert lines != cells
    assert "25" in shown(page, "note")  # what the lines are
    page.keyboard.press("m")
    assert count_maps(page) == 0
    page.keyboard.down("Space")
    assert count_maps(page) == 2
    page.keyboard.up("Space")
    page.keyboard.press("m")
    page.keyboard.press("]")
    page.hover("[data-tool=peek]")  # with the mouse or a finger: the button
    page.mouse.down()
    assert count_maps(page) == 0
    page.mouse.up()
    assert count_maps(page) == 2
    look = "getComputedStyle(document.querySelector('.mm-viewer-map-image')).opacity"
    assert float(page.evaluate(look)) == 0.7
    assert page.locator(".mm-viewer .mm-outline:visible").count() == 2
    page.keyboard.press("o")
    assert page.locator(".mm-viewer .mm-outline:visible").count() == 0

    scales = "[...document.querySelectorAll('.mm-pane-image')].map(e => OpenSeadragon.getViewer(e).viewport)"
    zooms = f"{scales}.map(v => Math.round(100 * v.getZoom() / v.getHomeZoom()))"
    page.keyboard.press("+")
    assert page.evaluate(zooms) == [150, 100]
    page.keyboard.press("l")
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        f"(([a, b]) => a === b && a > 150)({scales}.map(v => Math.round(100 * v.getZoom(true) / v.getHomeZoom())))"
    )
    page.wait_for_function(  # the other pane follows a frame later
        f"(([a, b]) => Math.abs(a - b) < 0.02 && a > 0.5)({scales}.map(v => v.getCenter().x))"
    )

    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement?.matches('.mm-viewer-whole')")
    page.keyboard.press("f")
    page.wait_for_function("!document.fullscreenElement")
    page.select_option("[data-tool=layout]", "ct-pair")  # the image beside itself with its map
    page.wait_for_function(DRAWN)
    assert count_maps(page) == 1
    assert page.get_attribute("[data-tool=link]", "aria-pressed") == "true"
    page.focus(".mm-pane .openseadragon-canvas")
    page.keyboard.press("i")
    slopes = "[...document.querySelectorAll('.mm-viewer-filters feFuncR')].map(e => e.getAttribute('slope'))"
    assert page.evaluate(slopes) == ["-1", "-1"]  # one film, one window
    inspect(page, results, "image and map")
    if width == 390:
        assert page.locator("[data-tool=invert]").is_hidden()
        page.click("[data-tool=more]")
        assert page.locator("[data-tool=invert]").is_visible()
        inspect(page, results, "all tools")
    assert page.evaluate("document.querySelector('.mm-viewer').scrollWidth") <= width
    assert results == {}


def test_two_fingers_zoom_and_one_moves_or_sets_the_window(open_page, files):
    page = open_page(width=390, height=844)
    put(page, "xray", files["film"])
    open_viewer(page, "xray")
    session = page.context.new_cdp_session(page)
    session.send("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 5})
    box = page.locator(".mm-pane-image").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def touch(kind: str, *points: tuple[float, float]) -> None:
        numbered = [{"x": x + dx, "y": y + dy, "id": row} for row, (dx, dy) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": numbered})

    def drag() -> None:
        touch("touchStart", (0, 0))
        for step in range(1, 7):
            touch("touchMove", (8 * step, 5 * step))
        touch("touchEnd")

    before = measure_zoom(page)
    touch("touchStart", (-20, 0), (20, 0))
    for step in range(1, 8):
        touch("touchMove", (-20 - 10 * step, 0), (20 + 10 * step, 0))
    touch("touchEnd")
    page.wait_for_function(f"before => {OSD}.viewport.getZoom() > 1.8 * before", arg=before)
    centre = page.evaluate(f"{OSD}.viewport.getCenter().x")
    drag()
    page.wait_for_function(f"before => {OSD}.viewport.getCenter().x < before - 0.01", arg=centre)
    assert shown(page, "grey") == "Level 128, width 255"
    page.click("[data-tool=grey]")
    centre = page.evaluate(f"{OSD}.viewport.getCenter().x")
    drag()
    assert shown(page, "grey") != "Level 128, width 255"
    assert page.evaluate(f"{OSD}.viewport.getCenter().x") == pytest.approx(centre, abs=1e-3)
