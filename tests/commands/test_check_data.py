"""`check-data` and what `audit` adds: collections, wrong rows, and what could mislead a network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from trees import write_image, write_manifest, write_sarscov2

POSITIVE = "covid19_pneumonia"


def save_mask(path: Path, values: tuple[int, ...] = (0, 255), size: tuple[int, int] = (16, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.resize(np.array(values, np.uint8), size)
    Image.fromarray(grey).save(path)


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """`ward-ct` of three patients, one with both labels, and masks; `clinic-ct` shares a patient and a slice."""
    rows = [
        {"file": "0.png", "label": "normal", "patient": "p0", "site": "a"},
        {"file": "1.png", "label": POSITIVE, "patient": "p0", "site": "a", "lesion_mask": "m.png"},
        {"file": "2.png", "label": POSITIVE, "patient": "p2", "site": "b", "boxes": "[[0, 0, 0.5, 0.5]]"},
        {"file": "3.png", "label": "other", "patient": "", "site": "b"},
    ]
    save_mask(write_manifest(tmp_path / "ward-ct", rows) / "m.png")
    clinic = write_manifest(tmp_path / "clinic-ct", [{"file": "9.png", "label": "normal", "patient": "p2"}])
    (clinic / "9.png").write_bytes((tmp_path / "ward-ct" / "2.png").read_bytes())
    return tmp_path


def test_sound_collections(ward: Path, covid_mm) -> None:
    done = covid_mm("check-data", ward)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split()[:5] == ["collection", "kind", "normal", "COVID-19", "other"]
    assert lines[1].split() == ["clinic-ct", "CT", "1", "-", "-", "1", "-", "-", "-", "-"]
    assert lines[2].split() == ["ward-ct", "CT", "1", "2", "1", "2", "2", "1", "1", "-"]
    assert "No problem in any row" in done.out
    assert "of one class only: clinic-ct" in done.out
    assert "p0 in ward-ct (1 + 1)" in done.out
    assert "1 (for example p2 (clinic-ct, ward-ct)); patient not known for 1 images" in done.out
    assert (
        "clinic-ct and ward-ct: 1, 1 of them with different labels (for example 9.png ~ 2.png, 1.000)"
        in done.out
    )
    assert "alone: 75.0% right, without it 50.0%" in done.out


def test_json_has_everything(ward: Path, covid_mm) -> None:
    content = json.loads(covid_mm("check-data", ward, "--json").out)
    assert set(content) == {"collections", "problems", "skipped", "audit"}
    assert content["collections"][1]["counts"] == {"normal": 1, POSITIVE: 2, "other": 1}
    assert content["problems"] == []
    assert content["audit"]["ct"]["one_class"] == ["clinic-ct"]
    assert content["audit"]["ct"]["near_copies"][0]["pairs"] == 1


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda ward: (ward / "1.png").write_bytes(b"GIF89a"), "row 3, file: 1.png is not a PNG"),
        (lambda ward: (ward / "1.png").write_bytes(b""), "row 3, file: 1.png is empty"),
        (lambda ward: (ward / "1.png").unlink(), "row 3, file: '1.png' is not there"),
        (
            lambda ward: save_mask(ward / "m.png", size=(8, 16)),
            "expected the image's size, 16 x 16 pixels, got 16 x 8",
        ),
        (lambda ward: save_mask(ward / "m.png", (0, 1)), "row 3, lesion_mask: expected the values 0 and 255"),
        (lambda ward: (ward / "m.png").write_bytes(b"no"), "row 3, lesion_mask: m.png is not a PNG"),
    ],
)
def test_what_is_wrong_is_named_with_exit_code_2(break_it, words: str, ward: Path, covid_mm) -> None:
    break_it(ward / "ward-ct")
    done = covid_mm("check-data", ward)
    assert done.code == 2
    assert "1 problem:\n  ward-ct/manifest.csv, row 3, " in done.out
    assert words in done.out
    assert "\nward-ct " in done.out


def test_problems_of_every_row_come_in_order(ward: Path, covid_mm) -> None:
    path = ward / "ward-ct" / "manifest.csv"
    path.write_text(path.read_text().replace("2.png,", "gone.png,").replace("0.png,normal", "0.png,sick"))
    (ward / "ward-ct" / "1.png").write_bytes(b"no image")
    result = json.loads(covid_mm("check-data", ward, "--json").out)["problems"]
    assert [(one["row"], one["column"]) for one in result] == [(2, "label"), (3, "file"), (4, "file")]


def test_an_unknown_modality_and_no_collection(tmp_path: Path, covid_mm) -> None:
    (tmp_path / "batch").mkdir()
    (tmp_path / "batch" / "manifest.csv").write_text("study,ct,xray\n")
    done = covid_mm("check-data", tmp_path)
    assert done.code == 2
    assert "No collection was found" in done.err
    assert "batch/manifest.csv has no column file and label" in done.err
    write_manifest(tmp_path / "ward", [{"file": "0.png", "label": "normal"}])
    done = covid_mm("check-data", tmp_path)
    assert done.code == 2
    assert "add a column modality" in done.out
    assert "Not used:\n  batch/manifest.csv" in done.out


def test_an_unreadable_image_without_a_manifest_is_named(tmp_path: Path, covid_mm) -> None:
    write_sarscov2(tmp_path, 3, 3)
    (tmp_path / "COVID" / "Covid (2).png").write_bytes(b"no image")
    done = covid_mm("check-data", tmp_path)
    assert done.code == 2
    assert "1 problem:\n  COVID/Covid (2).png, file: " in done.out


def test_audit_adds_the_collections(ward: Path, covid_mm) -> None:
    done = covid_mm("audit", "--data", ward)
    assert done.code == 0, done.err
    assert done.out.startswith("CT collections\n")
    write_sarscov2(ward / "set", 8, 8)
    done = covid_mm("audit", "--data", ward, "--json")
    content = json.loads(done.out)
    assert set(content) == {"ct", "collections"}
    assert set(content["collections"]["ct"]["names"]["counts"]) == {"sarscov2-ct", "ward-ct", "clinic-ct"}
    (ward / "ward-ct" / "1.png").write_bytes(b"no image")
    done = covid_mm("audit", "--data", ward)
    assert done.code == 2
    assert "check-data" in done.err


def test_audit_of_the_two_sets_is_as_it_was(tmp_path: Path, covid_mm) -> None:
    write_sarscov2(tmp_path, 8, 8)
    write_image(tmp_path / "external-ct" / "normal" / "1.png", 1)
    assert set(json.loads(covid_mm("audit", "--data", tmp_path, "--json").out)) == {"ct"}
