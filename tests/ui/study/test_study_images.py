"""Images are read beside the network's turn: whoever sends a slow or bad one holds nobody up."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_predictor import FakePredictor

sys.path.insert(0, str(Path(__file__).parents[2] / "imaging"))
from dicom_files import ct_slice, film

from covid_mm.config import ImageLimits
from covid_mm.imaging import read_grey
from covid_mm.ui.batch import tab as batch_tab
from covid_mm.ui.batch.files import Upload
from covid_mm.ui.page import NETWORK, answer_page, build_page, preview_slot
from covid_mm.ui.predictors import STUDIES, PredictorPool
from covid_mm.ui.study import analysis
from covid_mm.ui.study.examples import ExampleStudies
from covid_mm.ui.study.images import READERS, preview_upload, read_study
from covid_mm.ui.study.slot_choice import SliceChoice

LIMITS = ImageLimits()
PATIENT = 120.0  # seconds; a busy machine starts a process slowly


@pytest.fixture
def networks(predictor: FakePredictor) -> PredictorPool:
    return PredictorPool({"fake": lambda: predictor})


def run_aside(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """The work in a thread, and where its result will be."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    return thread, results


def test_a_bad_image_is_refused_while_another_has_the_network(networks, tmp_path):
    (tmp_path / "ct").write_bytes(b"not an image")
    with networks.lock.hold():
        thread, result = run_aside(lambda: answer_page(networks, LIMITS, str(tmp_path / "ct"), None))
        thread.join(PATIENT)
        assert "is not a PNG, JPEG or DICOM file" in result[0]


def test_a_slow_image_lets_the_next_visitor_pass(networks, tmp_path, dark, monkeypatch):
    reading, go_on = threading.Event(), threading.Event()

    class SlowReaders:
        def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
            if str(arguments[0]).endswith("slow"):
                reading.set()
                assert go_on.wait(PATIENT)
            return function(*arguments)

    monkeypatch.setattr(analysis, "READERS", SlowReaders())
    for name in ("slow", "quick"):
        (tmp_path / name).write_bytes(dark)
    slow, late = run_aside(lambda: answer_page(networks, LIMITS, str(tmp_path / "slow"), None))
    assert reading.wait(PATIENT)
    quick, soon = run_aside(lambda: answer_page(networks, LIMITS, str(tmp_path / "quick"), None))
    quick.join(PATIENT)
    assert soon
    assert not late
    go_on.set()
    slow.join(PATIENT)
    assert late


def test_a_batch_reads_its_files_before_its_turn(networks, tmp_path):
    (tmp_path / "a_ct.png").write_bytes(b"not an image")
    files = [Upload(str(tmp_path / "a_ct.png"), "a_ct.png")]
    with networks.lock.hold():
        thread, result = run_aside(
            lambda: list(batch_tab.run_api(networks, LIMITS, batch_tab.BatchLimits(), files, None))
        )
        thread.join(PATIENT)
        assert result[0][-1]["studies"][0]["error"].startswith("CT: the image is not a PNG")


def test_several_studies_are_read_while_one_has_the_network(networks):
    page = build_page(networks, ExampleStudies())
    limits = {fn.concurrency_limit for fn in page.fns.values() if fn.concurrency_id == NETWORK}
    assert limits == {STUDIES}
    assert STUDIES > 1


def test_another_process_reads_what_this_one_would(tmp_path, bright):
    slice_ = ct_slice(
        np.tile(np.arange(-900, 100, 10, dtype=np.int16), (60, 1)), WindowCenter=0, WindowWidth=99
    )
    (tmp_path / "ct").write_bytes(slice_)
    (tmp_path / "xray").write_bytes(bright)
    study = READERS.run(
        read_study, str(tmp_path / "ct"), str(tmp_path / "xray"), LIMITS, {"ct": SliceChoice("file", 0)}
    )
    np.testing.assert_array_equal(study.images["ct"].grey, read_grey(slice_, window="file"))
    np.testing.assert_array_equal(study.images["xray"].grey, read_grey(bright))
    assert study.images["ct"].header.modality == "ct"
    assert study.images["xray"].header is None
    assert (
        study.previews
        == read_study(
            str(tmp_path / "ct"), str(tmp_path / "xray"), LIMITS, {"ct": SliceChoice("file")}
        ).previews
    )


def test_a_header_that_contradicts_its_slot_is_still_seen(networks, tmp_path):
    (tmp_path / "ct").write_bytes(film(np.full((40, 40), 700, np.uint16)))
    assert "modality_mismatch_ct" in answer_page(networks, LIMITS, str(tmp_path / "ct"), None)


def test_previews_are_drawn_by_the_readers(tmp_path, dark):
    (tmp_path / "ct").write_bytes(ct_slice())
    (tmp_path / "png").write_bytes(dark)
    request_json = {"ct": {"window": "lung"}, "number": 4}
    shown = preview_slot(LIMITS, "ct", str(tmp_path / "ct"), request_json)
    assert shown == preview_upload(str(tmp_path / "ct"), "ct", LIMITS, SliceChoice("lung")) | {"number": 4}
    assert preview_slot(LIMITS, "ct", str(tmp_path / "png"), {"number": 4}) == {}


def test_a_reader_loads_nothing_heavy():
    code = "import sys, covid_mm.ui.study.images; print([m for m in ('tensorflow', 'gradio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
