"""A visitor who is faster than the server: what was asked last is what is shown in the end."""

from __future__ import annotations

import pytest
from test_evidence import choose
from test_page import analyse, heatmaps, put, slow_down

pytestmark = pytest.mark.browser


def test_the_maps_are_those_of_the_last_choice(open_page, studies):
    page = open_page()
    put(page, "ct", studies["bright"])
    analyse(page)
    choose(page, "target", "normal")
    choose(page, "method", "layer_cam")
    expected = heatmaps(page)
    choose(page, "target", "covid19_pneumonia")
    choose(page, "method", "grad_cam")

    slow_down(page, 300)
    page.select_option(".mm-heat-target", "normal")
    page.wait_for_timeout(100)
    page.select_option(".mm-heat-method", "layer_cam")
    page.wait_for_function(
        "wanted => JSON.stringify([...document.querySelectorAll('.mm-layer:not([hidden])')].map(e => e.src))"
        " === JSON.stringify(wanted)",
        arg=expected,
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
