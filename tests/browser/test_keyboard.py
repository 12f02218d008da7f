"""From an empty page to a report in hand without a mouse, and always seeing where one is."""

from __future__ import annotations

import json

import pytest
from test_page import heatmaps

pytestmark = pytest.mark.browser

# The focused element, or for the file inputs, which are invisible, what is drawn in their place.
RING = """() => {
  const focused = document.activeElement;
  const drawn = focused.matches('.mm-slot-input')
    ? [...focused.parentElement.children].filter((one) => one !== focused && one.offsetParent) : [focused];
  return drawn.some((one) => {
    const style = getComputedStyle(one);
    return (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1) || style.boxShadow !== 'none';
  });
}"""


def tab_to(page, selector: str, presses: int = 40) -> None:
    """Press Tab until the element has the focus; each stop on the way must be visible and ringed."""
    for _ in range(presses):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.outerHTML.slice(0, 120)")
        assert page.evaluate("document.activeElement.offsetParent !== null"), name
        assert page.evaluate(RING), f"no focus ring: {name}"
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} was not reached by Tab")


def press(page, key: str) -> None:
    """Press a key and wait for what it brings from the server."""
    before = page.evaluate("window.covidMM.finishes")
    page.keyboard.press(key)
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_from_start_to_report(open_page, studies, tmp_path, width, dark):
    page = open_page(width=width, dark=dark)
    for modality, key in (("ct", "Enter"), ("xray", "Space")):
        tab_to(page, f".mm-slot[data-modality={modality}] .mm-slot-input")
        with page.expect_file_chooser() as chooser:
            page.keyboard.press(key)
        chooser.value.set_files(str(studies["bright" if modality == "ct" else "xray1"]))
        page.wait_for_selector(f".mm-slot[data-modality={modality}][data-state=ready]")

    tab_to(page, "#mm-analyse")
    press(page, "Enter")
    assert page.locator(".mm-figure").count() == 2
    assert page.inner_text("#mm-result .mm-sr")  # told to a screen reader
    assert page.evaluate("document.activeElement.id") == "mm-analyse"  # the focus is not lost

    tab_to(page, ".mm-operating summary")
    page.keyboard.press("Enter")
    tab_to(page, ".mm-operating-slider")
    shown = page.inner_text(".mm-operating-text")
    page.keyboard.press("PageUp")
    assert page.inner_text(".mm-operating-text") != shown

    tab_to(page, ".mm-heat-target")
    before = heatmaps(page)
    press(page, "ArrowUp")  # the other class
    assert heatmaps(page) != before
    tab_to(page, ".mm-opacity")
    page.keyboard.press("End")
    assert page.inner_text(".mm-heat-opacity output").startswith("100")

    tab_to(page, ".mm-note")
    page.keyboard.type("Typed by keys")
    page.keyboard.press("Enter")  # a new line, not another analysis
    page.keyboard.type("alone.")
    tab_to(page, ".mm-report-button[data-format=json]")
    with page.expect_download() as caught:
        page.keyboard.press("Enter")
    caught.value.save_as(tmp_path / "report.json")
    result = json.loads((tmp_path / "report.json").read_text())
    assert result["note"] == "Typed by keys\nalone."
    assert result["label"] == page.get_attribute(".mm-answer", "data-label")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_tabs_theme_and_removal_by_keys(open_page, studies):
    page = open_page()
    tab_to(page, "#mm-theme")
    page.keyboard.press("Space")
    assert page.get_attribute("#mm-theme", "aria-pressed") == "true"
    tab_to(page, "[role=tab][aria-selected=true]")
    page.get_by_role("tab").last.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#mm-card", state="visible")
    page.get_by_role("tab").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#mm-study", state="visible")

    page.set_input_files(".mm-slot[data-modality=ct] .mm-slot-input", str(studies["ct1"]))
    page.wait_for_selector(".mm-slot[data-modality=ct][data-state=ready]")
    tab_to(page, ".mm-slot[data-modality=ct] .mm-slot-remove")
    page.keyboard.press("Enter")
    page.wait_for_selector(".mm-slot[data-modality=ct][data-state=empty]")
    assert page.evaluate("document.activeElement.matches('.mm-slot[data-modality=ct] .mm-slot-input')")
