"""Two people at the same server at the same time: answers, maps and reports never cross."""

from __future__ import annotations

import json

import pytest
from test_page import heatmaps, put

pytestmark = pytest.mark.browser


def wait_for_one_more(pages, press) -> None:
    """Press in both pages at once, then wait for both."""
    before = [page.evaluate("window.covidMM.finishes") for page in pages]
    for page in pages:
        press(page)
    for page, count in zip(pages, before, strict=True):
        page.wait_for_function("count => window.covidMM.finishes > count", arg=count)


def test_two_users_at_once_never_see_each_others_results(open_page, studies, tmp_path):
    pages = [open_page(), open_page(width=390)]
    slots = ({"ct": "bright", "xray": "xray1"}, {"ct": "black", "xray": "black"})
    for page, study in zip(pages, slots, strict=True):
        for modality, name in study.items():
            put(page, modality, studies[name])
    wait_for_one_more(pages, lambda page: page.click("#mm-analyse"))
    first, second = pages
    assert first.get_attribute(".mm-answer", "data-label") == "covid19_pneumonia"
    assert second.get_attribute(".mm-answer", "data-label") == "normal"
    answers = [page.inner_html(".mm-answer") for page in pages]
    assert not set(heatmaps(first)) & set(heatmaps(second))
    previews = [page.get_attribute(".mm-view img", "src") for page in pages]
    assert previews[0] != previews[1]

    # one asks for another map while the other sets out on a slow one
    wait_for_one_more(
        pages,
        lambda page: page.select_option(".mm-heat-method", "score_cam" if page is first else "layer_cam"),
    )
    assert not set(heatmaps(first)) & set(heatmaps(second))
    captions = [page.locator(".mm-map-caption").first.inner_text() for page in pages]
    assert ["Score" in captions[0], "Layer" in captions[1]] == [True, True]

    for page, note in ((first, "note of the first"), (second, "note of the second")):
        page.fill(".mm-note", note)
    with first.expect_download() as one, second.expect_download() as two:
        for page in pages:
            page.click(".mm-report-button[data-format=json]")
    reports = []
    for number, caught in enumerate((one, two)):
        caught.value.save_as(tmp_path / f"{number}.json")
        reports.append(json.loads((tmp_path / f"{number}.json").read_text()))
    for page, report, note in zip(pages, reports, ("first", "second"), strict=True):
        assert report["note"] == f"note of the {note}"
        assert report["label"] == page.get_attribute(".mm-answer", "data-label")
        for modality in ("ct", "xray"):
            shown = page.get_attribute(f".mm-view[data-modality={modality}] img", "src")
            assert report["images"][modality] == shown

    first.click("#mm-clear")  # one who leaves takes nothing from the other
    first.wait_for_selector(".mm-empty")
    assert [answers[1]] == [second.inner_html(".mm-answer")]
    wait_for_one_more([second], lambda page: page.select_option(".mm-heat-target", "normal"))
    assert second.locator(".mm-heat-status").inner_text() == ""


def test_who_waits_is_told_how_many_come_first(open_page, server, studies):
    pages = [open_page(), open_page(locale="id-ID"), open_page(width=390, dark=True)]
    with server.slow(600) as go_on:
        line = [page.locator(".mm-line") for page in pages]
        for number, page in enumerate(pages):
            put(page, "ct", studies["bright"])
            before = page.locator("#mm-help").bounding_box()
            page.click("#mm-analyse")
            if number:
                line[number].wait_for()
                assert page.locator("#mm-help").bounding_box() == before  # nothing moved
        assert line[0].count() == 0
        assert line[1].inner_text() == "1 pemeriksaan sebelum milik Anda"
        assert line[2].inner_text() == "2 studies before yours"
        assert line[2].get_attribute("role") == "status"
        pages[1].close()  # gone: the event ends, and the place after a while; nobody is held up
        go_on()
        for number in (0, 2):
            pages[number].wait_for_selector(".mm-answer")
            pages[number].wait_for_function("window.covidMM.finishes > 0")
            assert line[number].count() == 0
            assert pages[number].locator("#mm-help").is_visible()
