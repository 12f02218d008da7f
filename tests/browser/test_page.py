"""A user's way through the page, in a real browser, on the fake predictor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.browser


def put(page, modality: str, path) -> None:
    """Choose a file for a slot and wait until it has arrived."""
    page.set_input_files(f".mm-slot[data-modality={modality}] .mm-slot-input", str(path))
    page.wait_for_selector(f".mm-slot[data-modality={modality}]:is([data-state=ready], [data-state=broken])")


def analyse(page, key: bool = False) -> None:
    """Press the button (or Enter) and wait until what it brought is there."""
    before = page.evaluate("window.covidMM.finishes")
    if key:
        page.keyboard.press("Enter")
    else:
        page.click("#mm-analyse")
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
    page.wait_for_selector(".mm-answer, .mm-error")


def at_both_widths(page) -> Iterator[int]:
    """The widths of a desk and of a phone, each while the page has it."""
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        yield width


def slow_down(page, milliseconds: int) -> None:
    """Let each request take that much longer."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    conditions = {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
    session.send("Network.emulateNetworkConditions", {**conditions, "latency": milliseconds})


def heatmaps(page) -> list[str]:
    return page.eval_on_selector_all(".mm-layer:not([hidden])", "images => images.map(image => image.src)")


def visible_text(page) -> str:
    return page.inner_text("#mm-result")


def test_two_images_one_answer_and_new_heatmaps_for_a_new_study(open_page, studies):
    page = open_page()
    assert "No study analysed yet" in visible_text(page)
    put(page, "ct", studies["ct0"])
    put(page, "xray", studies["xray0"])
    analyse(page)
    first_text, first_maps = visible_text(page), heatmaps(page)
    assert page.get_attribute(".mm-answer", "data-label") in ("normal", "covid19_pneumonia")
    assert page.locator(".mm-bar .mm-fill").count() == 3
    assert len(first_maps) == 2
    assert first_maps[0] != first_maps[1]
    for text in ("Research use only, not for diagnosis.", "fake-for-tests", "2026-01-02", "fixed scale"):
        assert text in first_text

    put(page, "ct", studies["bright"])
    put(page, "xray", studies["xray1"])
    analyse(page)
    second_maps = heatmaps(page)
    assert all(old != new for old, new in zip(first_maps, second_maps, strict=True))
    assert visible_text(page) != first_text


def test_every_picture_is_drawn_and_the_map_lies_on_its_image(page, studies):
    put(page, "ct", studies["ct1"])
    analyse(page)
    broken = page.eval_on_selector_all(
        "#mm-result img", "images => images.filter(image => !image.complete || !image.naturalWidth).length"
    )
    assert broken == 0
    boxes = page.eval_on_selector_all(
        ".mm-stack:has(.mm-layer) img",
        "images => images.map(image => { const b = image.getBoundingClientRect();"
        " return [b.x, b.y, b.width, b.height].map(Math.round) })",
    )
    assert boxes[0] == boxes[1]
    assert boxes[0][2] > 100


def test_one_empty_slot_is_answered_from_the_other(page, studies):
    put(page, "xray", studies["xray1"])
    analyse(page)
    text = visible_text(page)
    assert "from the X-ray alone" in text
    assert page.locator(".mm-warnings").count() == 0  # one image is no fault
    assert page.locator(".mm-view").count() == 1


def test_disagreeing_images_are_flagged(page, studies):
    put(page, "ct", studies["bright"])
    put(page, "xray", studies["black"])
    analyse(page)
    assert page.locator('[data-flag="disagree"]').is_visible()


def test_no_positive_evidence_is_said_on_the_image(page, studies):
    put(page, "ct", studies["black"])
    analyse(page)
    assert heatmaps(page) == []
    assert "No positive evidence for COVID-19 pneumonia" in visible_text(page)


def test_both_slots_empty_is_one_sentence(page):
    analyse(page)
    assert page.inner_text(".mm-error p") == "Add a CT slice, a chest X-ray, or both; then analyse."


def test_a_damaged_file_is_one_sentence_in_the_page(page, studies):
    put(page, "ct", studies["damaged"])
    analyse(page)
    sentence = page.inner_text(".mm-error p")
    assert sentence.startswith("CT slice: ")
    assert sentence.count(". ") <= 1
    assert page.locator(".mm-answer").count() == 0


def test_a_file_over_the_limit_is_refused_before_it_is_sent(page, studies):
    page.set_input_files(".mm-slot[data-modality=ct] .mm-slot-input", str(studies["large"]))
    page.wait_for_selector(".mm-slot[data-modality=ct] .mm-slot-note:has-text('larger than 20 MB')")


def test_enter_analyses(page, studies):
    put(page, "ct", studies["ct1"])
    analyse(page, key=True)
    assert page.locator(".mm-answer").count() == 1


def test_an_upload_on_its_way_is_waited_for(page, studies):
    page.set_input_files(".mm-slot[data-modality=ct] .mm-slot-input", str(studies["ct1"]))
    analyse(page)  # at once, before the upload has arrived
    assert page.locator(".mm-answer").count() == 1


def test_an_answer_is_marked_when_the_images_have_changed(page, studies):
    put(page, "ct", studies["ct0"])
    analyse(page)
    stale = page.locator(".mm-stale-note")
    assert not stale.is_visible()
    put(page, "ct", studies["ct1"])
    assert stale.is_visible()
    analyse(page)
    page.wait_for_function("!document.querySelector('#mm-result').classList.contains('mm-stale')")
    page.click(".mm-slot[data-modality=ct] .mm-slot-remove")
    assert stale.is_visible()


def test_clear_empties_slots_and_result(page, studies):
    put(page, "ct", studies["ct0"])
    analyse(page)
    before = page.evaluate("window.covidMM.finishes")
    page.click("#mm-clear")
    page.wait_for_selector(".mm-empty")
    page.wait_for_function("before => window.covidMM.finishes === before + 1", arg=before)
    assert page.locator(".mm-slot[data-state=empty]").count() == 2
    assert page.locator(".mm-answer").count() == 0
    assert not page.locator(".mm-stale-note").is_visible()
    analyse(page)
    assert "Add a CT slice" in visible_text(page)


def test_an_example_fills_both_slots_and_is_labelled(page):
    assert "Synthetic phantom, not a patient" in page.inner_text("#mm-examples")
    page.locator(".mm-example").first.click()
    page.wait_for_function("document.querySelectorAll('.mm-slot[data-state=ready]').length === 2")
    analyse(page)
    assert page.locator(".mm-view").count() == 2


def test_dropping_and_pasting_fill_a_slot(page):
    make = """
      const canvas = document.createElement('canvas'); canvas.width = canvas.height = 64;
      const blob = await new Promise(done => canvas.toBlob(done, 'image/png'));
      const data = new DataTransfer(); data.items.add(new File([blob], 'ZZPHI.png', {type: 'image/png'}));
    """
    page.evaluate(
        f"async () => {{ {make} document.querySelector('.mm-slot[data-modality=xray] .mm-slot-drop')"
        ".dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})); }"
    )
    page.wait_for_selector(".mm-slot[data-modality=xray][data-state=ready]")
    page.evaluate(
        f"async () => {{ {make} document.dispatchEvent(new ClipboardEvent('paste',"
        " {clipboardData: data, bubbles: true})); }"
    )
    page.wait_for_selector(".mm-slot[data-modality=ct][data-state=ready]")


@pytest.mark.parametrize(("dark", "first"), [(False, 1280), (True, 390)], ids=["light", "dark"])
def test_no_width_scrolls_sideways_and_the_theme_follows_the_system(open_page, studies, dark, first):
    page = open_page(width=first, dark=dark)
    put(page, "ct", studies["bright"])
    put(page, "xray", studies["xray0"])
    analyse(page)
    for width in (first, *at_both_widths(page)):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.querySelector('#mm-result')).backgroundColor")
        assert background == ("rgb(19, 26, 32)" if dark else "rgb(255, 255, 255)")


def test_the_button_switches_light_and_dark(page):
    look = "getComputedStyle(document.querySelector('#mm-result')).backgroundColor"
    before = page.evaluate(look)
    page.click("#mm-theme")
    assert page.evaluate(look) != before
    page.click("#mm-theme")
    assert page.evaluate(look) == before


def test_nothing_jumps_while_the_answer_arrives(page, studies):
    positions = """["#mm-result", "#mm-actions", "#mm-examples"].map(name => {
      const box = document.querySelector(name).getBoundingClientRect();
      return [box.x, box.y, box.width];
    })"""
    before = page.evaluate(positions)
    put(page, "ct", studies["ct1"])
    assert page.evaluate(positions) == before
    analyse(page)
    assert page.evaluate(positions) == before


def test_by_keyboard_alone(open_page, studies):
    page = open_page()
    seen = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("(() => { const e = document.activeElement; return e.id || e.className })()"))
    for stop in ("mm-theme", "mm-slot-input", "mm-analyse", "mm-clear", "mm-example"):
        assert any(stop in name for name in seen), (stop, seen)
    put(page, "ct", studies["ct1"])
    page.focus(".mm-slot[data-modality=ct] .mm-slot-input")
    analyse(page, key=True)
    assert page.locator(".mm-answer").count() == 1
    status = page.inner_text("#mm-result .mm-sr")
    assert status.startswith("Answer: ")


def test_images_and_buttons_have_names(page, studies):
    put(page, "ct", studies["ct1"])
    analyse(page)
    nameless = page.evaluate(
        "[...document.querySelectorAll('#mm-result img, #mm-study button, #mm-header button, input')]"
        ".filter(e => e.offsetParent && !(e.alt || e.innerText || e.getAttribute('aria-label')))"
        ".map(e => e.outerHTML.slice(0, 120))"
    )
    assert nameless == []
