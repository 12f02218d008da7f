"""What can be done with an answer: opacity, class, method, layer, outline, a map as a file, another threshold."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from test_page import analyse, heatmaps, put

pytestmark = pytest.mark.browser

WIDTHS = pytest.mark.parametrize("width", [1280, 390])


@pytest.fixture
def answered(revisit, studies):
    """`answered(width)`: a page with an answer to two images."""

    def opener(width: int = 1280):
        page = revisit(width=width)
        put(page, "ct", studies["bright"])
        put(page, "xray", studies["xray1"])
        analyse(page)
        return page

    return opener


def choose(page, name: str, value: str) -> None:
    """Pick from a chooser and wait for what it brings."""
    before = page.evaluate("window.covidMM.finishes")
    page.select_option(f".mm-heat-{name}", value)
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)


def record_requests(page) -> list[str]:
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url) if request.url.startswith("http") else None)
    return urls


@WIDTHS
def test_opacity_needs_no_server(answered, width):
    page = answered(width)
    look = "() => [...document.querySelectorAll('.mm-layer')].map(e => getComputedStyle(e).opacity)"
    assert page.evaluate(look) == ["0.6", "0.6"]
    urls = record_requests(page)
    for value in ("0", "100", "35"):
        page.fill(".mm-opacity", value)
        assert {float(one) for one in page.evaluate(look)} == {int(value) / 100}
        assert value in page.inner_text(".mm-heat-opacity output")
    assert urls == []


@WIDTHS
def test_another_class_another_method_and_another_layer_change_both_maps(answered, width):
    page = answered(width)
    seen = [heatmaps(page)]
    labels = [
        page.locator(".mm-map-caption").all_inner_texts() + page.locator(".mm-scale small").all_inner_texts()
    ]
    for name, value in (("target", "normal"), ("method", "layer_cam")):
        choose(page, name, value)
        seen.append(heatmaps(page))
        texts = (
            page.locator(".mm-map-caption").all_inner_texts()
            + page.locator(".mm-scale small").all_inner_texts()
        )
        labels.append(texts)
        assert page.input_value(f".mm-heat-{name}") == value
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert all(len(maps) == 2 for maps in seen)
    assert len({maps[0] for maps in seen}) == len({maps[1] for maps in seen}) == 3
    assert len({tuple(texts) for texts in labels}) == 3
    assert "Layer-CAM" in labels[-1][0]
    choose(page, "layer", "fine")
    assert page.locator(".mm-heat-cancel").is_hidden()
    choose(
        page, "method", "attention"
    )  # of one class and one layer: the other choosers follow it, and it them
    choosers = ("method", "target", "layer")
    shown = [page.input_value(f".mm-heat-{name}") for name in choosers]
    assert shown == ["attention", "covid19_pneumonia", "coarse"]
    assert "where the network sees a lesion" in page.locator(".mm-scale small").first.inner_text()
    choose(page, "target", "normal")
    assert [page.input_value(f".mm-heat-{name}") for name in choosers] == ["layer_cam", "normal", "coarse"]
    answer = page.get_attribute(".mm-answer", "data-label")
    assert answer == "covid19_pneumonia"  # the class whose evidence is drawn is not the answer


def test_a_slow_method_shows_progress_and_can_be_cancelled(answered):
    page = answered()
    before = heatmaps(page)
    page.select_option(".mm-heat-method", "score_cam")
    page.wait_for_function(r"/[1-9]\d* %/.test(document.querySelector('.mm-heat-status').textContent)")
    assert page.get_attribute(".mm-views", "aria-busy") == "true"
    page.evaluate("""() => {
      const refused = window.covidMM.refused;
      window.refusals = 0;
      window.covidMM.refused = (name) => { refused(name); window.refusals += 1; };
    }""")
    page.click(".mm-heat-cancel")
    page.wait_for_selector(".mm-heat-cancel", state="hidden")
    page.wait_for_function("window.refusals >= 2")  # Gradio calls a cancelled event failed, twice
    assert page.input_value(".mm-heat-method") == "grad_cam"  # what is shown, not what was wished for
    assert page.inner_text(".mm-heat-status") == ""
    assert heatmaps(page) == before
    assert page.get_attribute(".mm-views", "aria-busy") is None
    choose(page, "target", "normal")  # the server is free again
    assert heatmaps(page) != before
    analyse(page)
    assert page.locator(".mm-figure").count() == 2


def test_a_slow_method_ends_in_its_own_maps(answered):
    page = answered()
    before = heatmaps(page)
    choose(page, "method", "score_cam")
    assert heatmaps(page) != before
    assert "Faster Score-CAM" in page.inner_text(".mm-map-caption >> nth=0")


@WIDTHS
def test_a_map_is_downloaded_at_the_images_own_size(answered, studies, tmp_path, width):
    page = answered(width)
    original = np.asarray(Image.open(studies["bright"]).convert("L"))

    def download(opacity: str) -> np.ndarray:
        page.fill(".mm-opacity", opacity)
        with page.expect_download() as caught:
            page.click(".mm-download[data-modality=ct]")
        assert caught.value.suggested_filename == "ct-grad_cam.png"
        caught.value.save_as(tmp_path / "map.png")
        return np.asarray(Image.open(tmp_path / "map.png").convert("RGB")).astype(int)

    clear, covered = download("0"), download("100")
    assert clear.shape == covered.shape == (*original.shape, 3)
    assert np.abs(clear - original[..., None]).max() <= 2  # opacity 0: the image itself
    assert np.abs(clear - covered).mean() > 5
    page.wait_for_selector(".mm-heat-cancel", state="hidden")


@WIDTHS
def test_the_slider_shows_what_another_threshold_was_worth(answered, width):
    page = answered(width)
    text = ".mm-operating-text"
    worth = page.inner_text(".mm-evidence")  # measured where the network was never trained
    assert "sensitivity 87 %" in worth
    assert "388/389" not in page.inner_text("#mm-result")  # the validation images' figures
    assert not page.locator(text).is_visible()
    urls = record_requests(page)
    calls, tick = ".mm-bar[data-branch=fused] .mm-call", ".mm-bar[data-branch=fused] .mm-track i"
    own = (page.inner_text(calls), page.get_attribute(tick, "style"))
    page.click(".mm-operating summary")
    page.fill(".mm-operating-slider", "90")
    shown = page.inner_text(text)
    assert "519/602" in shown
    assert "572/602" in shown
    called, moved = [], []
    for value in ("3", "97"):  # the ends of what is supported
        page.fill(".mm-operating-slider", value)
        called.append(page.inner_text(text).rsplit(". ", 1)[-1])
        moved.append((page.inner_text(calls), page.get_attribute(tick, "style").replace(" ", "")))
    assert called[0] != called[1]  # this study, called positive and called normal
    assert moved == [("COVID-19 pneumonia", "left:3%;"), ("Normal", "left:97%;")]
    assert page.locator(".mm-trial").is_visible()
    page.click(".mm-operating summary")  # put away, all is as it was
    page.wait_for_function("!document.querySelector('.mm-bars').hasAttribute('data-trial')")
    assert page.inner_text(calls) == own[0]
    assert page.get_attribute(tick, "style").replace(" ", "").rstrip(";") == own[1].replace(
        ".0%", "%"
    ).replace(" ", "").rstrip(";")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert urls == []
    assert page.inner_text(".mm-evidence") == worth  # the answer's own threshold stays


def test_the_validation_figures_and_their_slider_are_on_the_model_tab(page):
    page.get_by_role("tab", name="Model").click()
    page.wait_for_selector(".mm-card")
    assert "388/389" in page.inner_text(".mm-card")
    page.click(".mm-card .mm-operating summary >> nth=0")
    page.fill(".mm-card .mm-operating-slider >> nth=0", "90")
    shown = page.inner_text(".mm-card .mm-operating-text >> nth=0")
    assert "386/389" in shown
    assert "351/355" in shown
    assert "called" not in shown


@WIDTHS
def test_the_lungs_outline_lies_on_image_and_map_and_can_be_put_away(answered, width):
    page = answered(width)
    look = """() => [...document.querySelectorAll('.mm-stack')].map((stack) => {
      const [image, lines] = ['img', '.mm-outline'].map((part) => stack.querySelector(part).getBoundingClientRect());
      return [image.x - lines.x, image.y - lines.y, image.width - lines.width, image.height - lines.height];
    })"""
    gaps = page.evaluate(look)
    assert len(gaps) == 4
    assert all(abs(gap) < 0.6 for four in gaps for gap in four)
    urls = record_requests(page)
    assert page.locator(".mm-outline:visible").count() == 4
    page.uncheck(".mm-outline-toggle")
    assert page.locator(".mm-outline:visible").count() == 0
    page.check(".mm-outline-toggle")
    assert page.locator(".mm-outline:visible").count() == 4
    assert urls == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_another_map_says_anew_how_well_it_points(answered):
    page = answered()
    assert "lay on a radiologist's box in 72 %" in page.inner_text(".mm-location >> nth=1")
    choose(page, "method", "hires_cam")
    assert "HiResCAM" in page.inner_text(".mm-location >> nth=1")
    assert "was not measured" in page.inner_text(".mm-location >> nth=1")
    choose(page, "method", "grad_cam")
    assert "72 %" in page.inner_text(".mm-location >> nth=1")


def test_new_images_never_lend_their_map_to_the_old_answer(answered, studies):
    page = answered()
    before = heatmaps(page)
    put(page, "ct", studies["ct0"])
    page.wait_for_selector("#mm-result.mm-stale")
    urls = record_requests(page)
    page.select_option(".mm-heat-target", "normal")
    page.wait_for_function("document.querySelector('.mm-heat-status').textContent.length > 1")
    assert page.inner_text(".mm-heat-status") == page.inner_text(".mm-stale-note")
    assert page.input_value(".mm-heat-target") == "covid19_pneumonia"
    page.click(".mm-report-button[data-format=json]")
    assert page.inner_text(".mm-report-status") == page.inner_text(".mm-stale-note")
    page.click(".mm-download[data-modality=ct]")
    assert heatmaps(page) == before
    assert urls == []
    analyse(page)
    choose(page, "target", "normal")
    assert heatmaps(page) != before
