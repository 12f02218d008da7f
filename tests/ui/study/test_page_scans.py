"""A whole scan in the CT slot: read once, kept beside its uploads, answered, drawn, reported, and deleted with them."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fake_predictor import FakePredictor
from pypdf import PdfReader
from scan_files import HEAD, chest_hu, nifti_file, series_files, zip_files

from covid_mm.config import ImageLimits
from covid_mm.errors import ImageError
from covid_mm.imaging import read_grey
from covid_mm.ui.page import answer_page, preview_slot
from covid_mm.ui.predictors import PredictorPool
from covid_mm.ui.report.events import report_page
from covid_mm.ui.study.analysis import analyse_study, analyse_uploads, delete_uploads, describe_prediction
from covid_mm.ui.study.events import download_page, explain_page
from covid_mm.ui.study.images import preview_upload, read_slot_image
from covid_mm.ui.study.scans import choose_thumbnails, find_scan, load_scan
from covid_mm.ui.study.slot_choice import SliceChoice, choose_slice, read_choices
from covid_mm.ui.study.waiting import render_reading
from covid_mm.ui.viewer.frames import read_frames, read_request

LIMITS = ImageLimits()


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    """12 slices, brighter from the feet to the head; the first shows air only."""
    volume = chest_hu(12, 48)
    volume += (np.arange(12) * 40).astype(np.int16)[:, None, None]
    volume[0] = -1400
    return volume


@pytest.fixture
def uploads(volume, tmp_path) -> tuple[str, ...]:
    paths = []
    for number, data in enumerate(series_files(volume)[::-1]):
        paths.append(tmp_path / f"u{number}")
        paths[-1].write_bytes(data)
    return tuple(map(str, paths))


@pytest.fixture
def networks() -> PredictorPool:
    predictor = FakePredictor()
    predictor.scan_delay = 0.0
    return PredictorPool({"fake": lambda: predictor})


def test_a_scan_is_decoded_once_and_goes_with_its_uploads(uploads, volume):
    scan = find_scan(uploads, None, LIMITS, "CT slice")
    cached = [path for path in Path(uploads[0]).parent.iterdir() if ".scan-" in path.name]
    assert sorted(path.suffix for path in cached) == [".json", ".npy"]
    assert not any("ZZPHI" in path.read_text(errors="ignore") for path in cached)
    again = load_scan(uploads, None)
    np.testing.assert_array_equal(np.stack(again.slices), np.stack(scan.slices))
    assert (again.positions, again.series, again.header) == (scan.positions, scan.series, again.header)
    for window in (None, "mediastinum"):
        expected = read_grey(Path(uploads[-4]).read_bytes(), window=window)  # given from head to feet
        np.testing.assert_array_equal(again.render(3, window), expected)
    delete_uploads(uploads)
    assert list(Path(uploads[0]).parent.iterdir()) == []
    with pytest.raises(ImageError, match="CT slice: the uploaded image is no longer kept"):
        find_scan(uploads, None, LIMITS, "CT slice")


def test_a_visitor_does_not_wait_for_the_disk(uploads, monkeypatch):
    """Hundreds of megabytes that the next start removes: a busy disk takes seconds to have them."""

    def refuse(descriptor: int) -> None:
        raise AssertionError("flushed to the disk")

    monkeypatch.setattr("os.fsync", refuse)
    find_scan(uploads, None, LIMITS, "CT slice")
    assert load_scan(uploads, None) is not None


def test_zip_and_nifti_and_another_series(uploads, volume, tmp_path):
    head = series_files(chest_hu(3, 48, lungs=False), HEAD)
    files = {f"a/{n}": Path(path).read_bytes() for n, path in enumerate(uploads)}
    (tmp_path / "zip").write_bytes(zip_files(files | {f"b/{n}": data for n, data in enumerate(head)}))
    (tmp_path / "nii").write_bytes(nifti_file(volume))
    shown = preview_upload(str(tmp_path / "zip"), "ct", LIMITS, SliceChoice())
    assert (shown["frames"], shown["scan"], shown["chosen"], shown["left_out"]) == (12, True, 0, 3)
    assert shown["series"] == [{"slices": 12, "spacing": 5.0}, {"slices": 3, "spacing": 5.0}]
    other = preview_upload(str(tmp_path / "zip"), "ct", LIMITS, SliceChoice(series=1))
    assert (other["frames"], other["chosen"]) == (3, 1)
    assert (
        preview_upload(str(tmp_path / "nii"), "ct", LIMITS, SliceChoice(None, 5))["url"]
        == (preview_upload(uploads, "ct", LIMITS, SliceChoice(None, 5))["url"])
    )
    bad = tmp_path / "bad"
    bad.write_bytes(nifti_file((volume > 0).astype(np.uint8)))
    with pytest.raises(ImageError, match="CT slice holds no Hounsfield units"):
        preview_upload(str(bad), "ct", LIMITS, SliceChoice())


def test_one_file_in_the_ct_slot_is_read_as_ever(uploads):
    alone = read_slot_image(uploads[2], "ct", LIMITS, SliceChoice())
    np.testing.assert_array_equal(alone.grey, read_grey(Path(uploads[2]).read_bytes()))
    assert find_scan(uploads[2:3], None, LIMITS, "CT slice") is None
    assert "scan" not in preview_upload(uploads[2], "ct", LIMITS, SliceChoice())


def test_the_answer_has_curve_slider_thumbnails_and_extent(networks, uploads):
    shares: list[float] = []
    analysis = analyse_uploads(networks, None, uploads, None, LIMITS, read=shares.append)
    assert shares[-1] == 1.0
    scan = analysis.prediction.scan
    assert (len(scan.slices), scan.lung_slices, scan.slice) == (12, 11, 11)
    assert list(analysis.thumbnails) == [11, 8, 5, 2]
    html = answer_page(networks, LIMITS, uploads, None)
    assert 'data-slice="11"' in html
    assert "Slice 12 of 12, -145.0 mm, window level -600, width 1500 HU" in html
    assert 'max="12"' in html
    assert "it is not a score of severity" in html
    assert html.count("<polyline") == 1
    assert 'class="mm-series-gap" x="0" y="0" width="1"' in html
    described = describe_prediction(analysis.prediction)
    assert described["slice"] == 11
    assert described["extent"]["lung_slices"] == 11
    # one slice alone, by choice
    choices = read_choices({"ct": {"window": "lung", "frame": 4, "alone": True}})
    alone = analyse_study(networks.choose(None).get(), uploads, None, LIMITS, choices)
    assert alone.prediction.scan is None
    assert alone.prediction.probabilities["covid19_pneumonia"] == scan.slices[4].probability


def test_the_map_of_any_slice_on_demand(networks, uploads):
    last = list(explain_page(networks, LIMITS, uploads, None, None, None, {"slice": 4, "number": 3}))[-1]
    assert last["number"] == 3
    assert last["slice"]["index"] == 4
    assert "mm-outline" in last["slice"]["outline"]
    assert last["maps"]["ct"]["layer"]
    plain = list(explain_page(networks, LIMITS, uploads, None, None, None, {}))[-1]
    assert "slice" not in plain
    saved = download_page(
        networks, LIMITS, uploads, None, None, None, {"slice": 4, "modality": "ct", "opacity": 0.0}
    )
    other = download_page(
        networks, LIMITS, uploads, None, None, None, {"slice": 9, "modality": "ct", "opacity": 0.0}
    )
    assert saved["url"] != other["url"]
    gone = list(explain_page(networks, LIMITS, uploads, None, None, None, {"slice": 99}))[-1]
    assert "there is no slice 100" in gone["error"]
    for wrong in (-1, "4", True, 4.0, None):
        assert choose_slice({}, {"slice": wrong}) == {}


def test_the_viewer_and_the_slot_show_the_same_slices_in_order(uploads):
    request = read_request({"modality": "ct", "frames": [3, 4], "window": "mediastinum"})
    frames = read_frames(uploads, LIMITS, request)
    assert (frames["count"], list(frames["pictures"])) == (12, ["3", "4"])
    assert frames["shown"] == {"level": 40.0, "width": 400.0}
    shown = preview_slot(LIMITS, "ct", uploads, {"ct": {"window": "mediastinum", "frame": 3}})
    assert (shown["frame"], shown["level"]) == (3, 40.0)


def test_the_report_names_slice_window_and_extent(networks, uploads):
    made = report_page(networks, LIMITS, uploads, None, None, None, {"format": "pdf"})
    data = base64.b64decode(made["url"].split(",")[1])
    text = " ".join(" ".join(page.extract_text() for page in PdfReader(BytesIO(data)).pages).split())
    assert "Slice 12 of 12, -145.0 mm, window level -600, width 1500 HU" in text
    assert "it is not a score of severity" in text
    report = report_page(networks, LIMITS, uploads, None, None, None, {"format": "json"})
    content = json.loads(base64.b64decode(report["url"].split(",")[1]))
    assert (content["slice"], content["window"]) == (11, {"level": -600.0, "width": 1500.0})


def test_thumbnails_are_apart_and_progress_is_shown_while_it_reads():
    assert choose_thumbnails([0.9, 0.8, None, 0.7, 0.2, 0.1, 0.95]) == [6, 0, 3]
    assert choose_thumbnails([None]) == []
    assert render_reading(0.0) == render_reading(1.0) == ""
    assert "Reading the slices: 40 %" in render_reading(0.4)
