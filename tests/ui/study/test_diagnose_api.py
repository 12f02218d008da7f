"""The API as the README shows it: `gradio_client` and one endpoint."""

from __future__ import annotations

import json

import pytest
from answer_keys import ANSWER_KEYS
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from live_server import LiveServer


@pytest.fixture
def client(server: LiveServer) -> Client:
    return Client(server.url, verbose=False)


@pytest.fixture
def files(tmp_path, bright, dark) -> dict[str, object]:
    (tmp_path / "ct.png").write_bytes(bright)
    (tmp_path / "xray.png").write_bytes(dark)
    return {name: handle_file(str(tmp_path / f"{name}.png")) for name in ("ct", "xray")}


def test_the_object_is_that_of_the_command(client, files):
    result = client.predict(**files, api_name="/diagnose")
    assert list(result) == ANSWER_KEYS
    assert result["branches"]["ct"]["probabilities"]["covid19_pneumonia"] > 0.5
    assert result["branches"]["xray"]["probabilities"]["covid19_pneumonia"] < 0.5
    assert [notice["code"] for notice in result["warnings"]] == ["branches_disagree"]
    assert set(result["lungs"]) == {"ct", "xray"}
    assert all(0 <= side <= 1 for box in result["lungs"].values() for side in box)
    assert set(result["evidence"]) == {"auc", "sensitivity", "specificity", "collections", "images"}
    assert set(result["checkpoint"]) == {"name", "sha256", "pair", "trained_on", "decision_threshold"}
    assert all(picture.startswith("data:image/png;base64,") for picture in result["heatmaps"].values())
    json.dumps(result)


@pytest.mark.parametrize("modality", ["ct", "xray"])
def test_either_image_may_be_left_out(client, files, modality):
    result = client.predict(**{modality: files[modality]}, api_name="/diagnose")
    assert result["modalities"] == [modality]
    assert result["warnings"][0]["code"] == "single_modality"


def test_errors_are_one_sentence(client, tmp_path):
    with pytest.raises(AppError, match="Add a CT slice, a chest X-ray, or both"):
        client.predict(api_name="/diagnose")
    (tmp_path / "notes.png").write_text("not an image")
    with pytest.raises(AppError, match="Chest X-ray: the image is not a PNG, JPEG or DICOM"):
        client.predict(xray=handle_file(str(tmp_path / "notes.png")), api_name="/diagnose")


def test_nothing_stays_on_the_server(server, client, files):
    before = set(server.uploads)
    client.predict(**files, api_name="/diagnose")
    assert set(server.uploads) <= before


def test_the_pages_own_events_are_not_offered(client):
    with pytest.raises(ValueError, match="Cannot find a function"):
        client.predict(None, None, api_name="/answer_page")
