"""Nothing jumps: Chromium's own measure of it, from the opening of the page to the last result."""

from __future__ import annotations

import pytest
from test_page import analyse, put

pytestmark = pytest.mark.browser

GOOD = 0.1  # cumulative layout shift at most; what browsers' makers call good
OBSERVE = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.shifts.push({
      value: entry.value, input: entry.hadRecentInput,
      what: entry.sources.map((source) => source.node?.outerHTML?.slice(0, 100) ?? '').join(' | '),
    });
  }).observe({ type: 'layout-shift', buffered: true });
}"""
# two frames later every shift of what has just been drawn is on record
READ = """() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() =>
  setTimeout(() => done(window.shifts.splice(0)), 0))))"""


def total(shifts: list[dict[str, object]]) -> float:
    return sum(float(shift["value"]) for shift in shifts)


@pytest.mark.parametrize("width", [1280, 390])
def test_results_arrive_without_a_jump(open_page, studies, width):
    page = open_page(width=width)
    page.evaluate(OBSERVE)
    opening = page.evaluate(READ)
    assert total(opening) < GOOD, opening

    put(page, "ct", studies["bright"])
    put(page, "xray", studies["black"])
    page.evaluate(READ)
    # a fast answer comes within half a second of the press, which the usual count forgives: not here
    analyse(page)
    answer = page.evaluate(READ)
    assert total(answer) < GOOD, answer

    for name, value in (("target", "normal"), ("method", "layer_cam")):
        before = page.evaluate("window.covidMM.finishes")
        page.select_option(f".mm-heat-{name}", value)
        page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
    maps = page.evaluate(READ)
    assert total(maps) < GOOD, maps

    put(page, "ct", studies["ct1"])
    page.evaluate(READ)
    analyse(page)
    again = page.evaluate(READ)
    assert total(again) < GOOD, again


def test_a_slow_machine_opens_the_page_without_a_jump(open_page):
    page = open_page(width=390)
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 12})
    page.reload()
    page.wait_for_selector("#mm-header .mm-brand")
    page.evaluate(OBSERVE)
    opening = page.evaluate(READ)
    assert total(opening) < GOOD, opening


def test_the_measure_notices_a_jump(open_page):
    page = open_page()
    page.evaluate(OBSERVE)
    page.evaluate(READ)
    page.evaluate("document.querySelector('#mm-tabs').style.marginTop = '200px'")
    assert total(page.evaluate(READ)) > GOOD
