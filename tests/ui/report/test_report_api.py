"""The report through `gradio_client`: one JSON object, with the PDF in it."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from io import BytesIO

import pytest
from fake_predictor import INFO
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from live_server import LiveServer
from pypdf import PdfReader

from covid_mm.config import RESEARCH_USE
from covid_mm.ui.report.content import NOTE_LENGTH

NAME = "ZZPHI-Siti-1975"  # the files' name, which must not come back
NOTE = "Follow-up after ten days; nodul 4 mm."


@pytest.fixture(scope="module")
def client(server: LiveServer) -> Client:
    return Client(server.url, verbose=False)


@pytest.fixture
def files(tmp_path, bright, dark) -> dict[str, object]:
    for modality, data in (("ct", bright), ("xray", dark)):
        (tmp_path / f"{NAME}-{modality}.png").write_bytes(data)
    return {m: handle_file(str(tmp_path / f"{NAME}-{m}.png")) for m in ("ct", "xray")}


def read_pdf(result: dict[str, object]) -> PdfReader:
    return PdfReader(BytesIO(base64.b64decode(str(result["pdf"]), validate=True)))


def test_the_object_is_that_of_diagnose_and_more(client, files):
    answered = client.predict(**files, api_name="/diagnose")
    result = client.predict(**files, note=NOTE, api_name="/report")
    assert set(answered) < set(result)
    assert result["label"] == answered["label"]
    assert result["probabilities"] == answered["probabilities"]
    assert result["note"] == NOTE
    assert result["research_use"] == RESEARCH_USE
    assert result["agreement"]["code"] == "disagree"
    assert result["answered_by"] == "fused"
    assert set(result["thresholds"]) == {"fused", "ct", "xray"}
    assert result["thresholds"]["fused"]["evidence"]["images"] == 1204
    assert result["evidence"] == answered["evidence"]
    assert set(result["images"]) == {"ct", "xray"}
    assert datetime.fromisoformat(result["date"]).utcoffset() is not None
    assert {"covid_mm", "python", "keras"} <= set(result["versions"])
    assert NAME not in json.dumps(result)


def test_the_pdf_is_the_same_report(client, files):
    result = client.predict(**files, note=NOTE, api_name="/report")
    reader = read_pdf(result)
    text = "".join(" ".join(page.extract_text() for page in reader.pages).split())  # lines may break anywhere
    for part in (NOTE, RESEARCH_USE, INFO.name, INFO.sha256, result["agreement"]["message"]):
        assert "".join(part.split()) in text, part
    assert 1 <= len(reader.pages) <= 2
    assert sum(len(page.images) for page in reader.pages) >= 4  # two images, two overlays
    assert NAME not in text
    assert NAME not in str(reader.metadata)


def test_one_image_without_a_note(client, files):
    result = client.predict(ct=files["ct"], api_name="/report")
    assert result["modalities"] == ["ct"]
    assert result["answered_by"] == "ct"
    assert result["agreement"]["code"] == "single"
    assert result["note"] == ""
    assert len(read_pdf(result).pages) >= 1


def test_errors_are_one_sentence(client, files):
    with pytest.raises(AppError, match="Add a CT slice, a chest X-ray, or both"):
        client.predict(api_name="/report")
    with pytest.raises(AppError, match=f"at most {NOTE_LENGTH} fit"):
        client.predict(**files, note="x" * (NOTE_LENGTH + 1), api_name="/report")


def test_nothing_stays_on_the_server(server, client, files):
    before = set(server.uploads)
    client.predict(**files, api_name="/report")
    with pytest.raises(AppError):
        client.predict(**files, note="x" * (NOTE_LENGTH + 1), api_name="/report")
    assert set(server.uploads) <= before
