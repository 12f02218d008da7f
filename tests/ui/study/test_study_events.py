"""The functions behind the page's later events: maps, a map as a file, the report, each safe with any wish."""

from __future__ import annotations

import base64
import json
from io import BytesIO

import gradio as gr
import numpy as np
import pytest
from fake_predictor import SECRET, FakePredictor
from made_images import make_png
from PIL import Image
from pypdf import PdfReader

from covid_mm.config import ImageLimits
from covid_mm.ui.predictors import PredictorPool
from covid_mm.ui.report.content import NOTE_LENGTH
from covid_mm.ui.report.events import report_api, report_page
from covid_mm.ui.study.events import download_page, explain_page

LIMITS = ImageLimits()


@pytest.fixture
def networks(predictor: FakePredictor) -> PredictorPool:
    return PredictorPool({"fake": lambda: predictor})


@pytest.fixture
def study(tmp_path, bright, dark) -> dict[str, str]:
    """Uploads, in the order of the events' arguments."""
    for name, data in (("ct", bright), ("xray", dark)):
        (tmp_path / name).write_bytes(data)
    return {"ct": str(tmp_path / "ct"), "xray": str(tmp_path / "xray")}


def is_free(networks: PredictorPool) -> bool:
    """Whether nobody holds the network."""
    return not networks.lock.is_held and not networks.lock.waiting


def explain(networks, study, request_json) -> list[dict[str, object]]:
    return list(explain_page(networks, LIMITS, study["ct"], study["xray"], None, None, request_json))


def decode(url: str) -> bytes:
    return base64.b64decode(url.split(",")[1])


def test_signs_of_life_then_both_maps(networks, study):
    *signs, last = explain(networks, study, {"method": "layer_cam", "layer": "fine", "target": "normal"})
    assert all(0 <= sign["progress"] <= 1 for sign in signs)
    assert set(last["maps"]) == {"ct", "xray"}
    assert all(shown["caption"] == "Layer-CAM" for shown in last["maps"].values())
    plain = explain(networks, study, {})[-1]["maps"]
    assert plain["ct"]["layer"] != last["maps"]["ct"]["layer"]
    assert is_free(networks)


def test_one_image_has_one_map(networks, study):
    last = explain(networks, study | {"xray": None}, {"method": "layer_cam"})[-1]
    assert set(last["maps"]) == {"ct"}


@pytest.mark.parametrize(
    ("change", "request_json"),
    [({}, {"method": "rm -rf"}), ({"ct": None, "xray": None}, {}), ({"ct": "/gone/away"}, {})],
    ids=["method", "no-study", "no-file"],
)
def test_whatever_is_wrong_is_one_sentence(networks, study, change, request_json):
    explained = explain(networks, study | change, request_json)
    assert list(explained[-1]) == ["error"]
    assert str(explained[-1]["error"]).endswith(".")
    assert "/gone" not in str(explained)
    assert is_free(networks)


def test_who_leaves_during_slow_work_ends_it(study):
    finished = []

    class Recorder(FakePredictor):
        def predict(self, *images, **options):
            result = super().predict(*images, **options)
            finished.append(result)
            return result

    networks = PredictorPool({"fake": Recorder})
    events = explain_page(networks, LIMITS, study["ct"], None, None, None, {"method": "score_cam"})
    assert "progress" in next(events)
    events.close()
    with networks.lock.hold():  # held until the work has ended
        assert finished == []


def test_a_map_is_saved_at_the_images_own_size(networks, study, tmp_path):
    (tmp_path / "ct").write_bytes(make_png(0.7, size=(211, 134)))
    request_json = {"modality": "ct", "opacity": 0.5, "method": "layer_cam"}
    result = download_page(networks, LIMITS, study["ct"], study["xray"], None, None, request_json)
    assert result["name"] == "ct-layer_cam.png"
    pixels = np.asarray(Image.open(BytesIO(decode(result["url"]))))
    assert pixels.shape == (211, 134, 3)


@pytest.mark.parametrize(
    "request_json",
    [
        {},
        {"modality": "mri", "opacity": 0.5},
        {"modality": "ct"},
        {"modality": "ct", "opacity": 1.5},
        {"modality": "ct", "opacity": "0.5"},
        {"modality": ["ct"], "opacity": float("nan")},
    ],
)
def test_a_map_that_was_not_offered_is_refused(networks, study, predictor, request_json):
    result = download_page(networks, LIMITS, study["ct"], study["xray"], None, None, request_json)
    assert list(result) == ["error"]
    assert "Something went wrong" not in result["error"]
    assert predictor.calls == 0


def test_the_map_of_an_empty_slot_is_refused(networks, study):
    request_json = {"modality": "xray", "opacity": 0.5}
    result = download_page(networks, LIMITS, study["ct"], None, None, None, request_json)
    assert list(result) == ["error"]


def report(networks, study, request_json) -> dict[str, str]:
    return report_page(networks, LIMITS, study["ct"], study["xray"], None, None, request_json)


def test_the_report_is_pdf_or_json_of_the_same_study(networks, study):
    result = report(networks, study, {"format": "json", "note": " As typed. ", "method": "layer_cam"})
    assert result["name"] == "inconclusive-report.json"  # the two images disagree
    content = json.loads(decode(result["url"]))
    assert (content["note"], content["heatmap_method"]) == ("As typed.", "Layer-CAM")
    for asked in ({"format": "pdf"}, None, {"format": "exe"}):
        made = report(networks, study, asked)
        assert made["name"] == "inconclusive-report.pdf"
        assert len(PdfReader(BytesIO(decode(made["url"]))).pages) in (1, 2)


def test_a_note_too_long_is_refused_before_the_network_is_asked(networks, study, predictor):
    result = report(networks, study, {"note": "x" * (NOTE_LENGTH + 1)})
    assert str(NOTE_LENGTH) in result["error"]
    assert predictor.calls == 0


def test_an_unexpected_error_leaks_no_path(networks, study, tmp_path):
    white = BytesIO()
    Image.fromarray(np.full((40, 40), 255, np.uint8)).save(white, "PNG")
    (tmp_path / "ct").write_bytes(white.getvalue())
    for result in (report(networks, study, {}), explain(networks, study, {})[-1]):
        assert list(result) == ["error"]
        assert SECRET not in result["error"]
    with pytest.raises(gr.Error) as caught:
        report_api(networks, LIMITS, study["ct"], study["xray"])
    assert SECRET not in str(caught.value)
    assert not (tmp_path / "ct").exists()  # deleted whatever the answer
    assert is_free(networks)


def test_the_pages_count_comes_back_with_every_object(networks, study):
    given = explain(networks, study, {"method": "grad_cam", "number": 7})
    assert given
    assert {one["number"] for one in given} == {7}
    assert all("number" not in one for one in explain(networks, study, {"number": "<b>"}))
