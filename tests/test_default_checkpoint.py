"""The committed checkpoint: sound, small, complete, and as good as its card says on real images."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import covid_mm
from covid_mm.config import CLASSES, DEFAULT_PAIR
from covid_mm.datasets.phantoms import make_study

CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / DEFAULT_PAIR
RESULTS = CHECKPOINT.parents[1] / "results"
MAX_BYTES = 25_000_000
NEEDED = {"ct": 0.93, "xray": 0.95}  # accuracy on their own validation images
HEADS = {"fused", "ct", "xray"}

pytestmark = pytest.mark.skipif(
    not (CHECKPOINT / "meta.json").exists(),
    reason=f"checkpoints/{DEFAULT_PAIR} is not there: not trained yet",
)


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    from covid_mm.serving.checkpoint import load_checkpoint

    return load_checkpoint(CHECKPOINT)


@pytest.fixture(scope="module")
def meta() -> dict[str, Any]:
    return json.loads((CHECKPOINT / "meta.json").read_text())


def test_it_is_small_and_its_hash_fits(meta):
    from covid_mm.files import hash_file

    files = sorted(path.name for path in CHECKPOINT.iterdir())
    assert files == ["README.md", "content_classifier.npz", "lungs.npz", "meta.json", "model.weights.h5"]
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) <= MAX_BYTES
    for part, file in (
        ("weights", "model.weights.h5"),
        ("content_check", "content_classifier.npz"),
        ("lungs", "lungs.npz"),
    ):
        assert hash_file(CHECKPOINT / file) == meta[part]["sha256"]


def test_meta_holds_what_the_design_lists(meta):
    assert meta["format_version"] == 3
    assert meta["recipe"] == "served"
    assert meta["pair"] == DEFAULT_PAIR
    assert meta["classes"] == list(CLASSES)
    assert meta["preprocessing"]["name"] == "lungs"
    assert set(meta["preprocessing"]["scaling_inside_the_network"]) == {"ct", "xray"}
    for field in ("temperature", "offset", "decision_threshold", "abstain_zone", "supported_probability"):
        assert set(meta[field]) == HEADS, field
    assert set(meta["heatmap_scale"]["fused"]) == {"ct", "xray"}
    assert not meta["synthetic"]
    assert set(meta["split"]["hashes"]) == {"ct", "xray"}
    assert {part["use"] for part in meta["data"]} == {"training", "evaluation only"}
    for part in meta["data"]:
        assert part["source"]
        assert part["licence"]
    for modality in ("ct", "xray"):
        assert "weights" in meta["initial_weights"][modality]["origin"]
        assert not meta["initial_weights"][modality]["seen"]  # or nothing would have been left out
    assert "train.py" in meta["command"]
    assert {"tensorflow", "keras", "numpy"} <= set(meta["packages"])


def test_evidence_is_that_of_the_left_out_table(meta):
    from covid_mm.evaluation.left_out import LeftOutTable

    tables = {table.head: table for table in map(LeftOutTable.from_dict, meta["left_out"]["heads"])}
    assert set(tables) == HEADS
    for head, table in tables.items():
        assert meta["evidence"][head] == table.evidence()
        assert meta["temperature"][head] == table.calibration.temperature
        assert meta["abstain_zone"][head] == list(table.zone)
        assert meta["supported_probability"][head] == table.supported_probability
        assert all(row.images >= 100 for row in table.rows)


def test_the_results_folder_tells_of_the_same_left_out_networks(meta):
    written = json.loads((RESULTS / "left-out.json").read_text())
    assert written["heads"] == meta["left_out"]["heads"]
    card = (CHECKPOINT / "README.md").read_text()
    for head in written["heads"]:
        assert f"{head['auc']['value']:.3f}" in card or f"{head['auc']['value']:.4f}" in card


def test_card_is_drawn_from_meta(meta):
    from covid_mm.reporting.model_card import render_card

    assert (CHECKPOINT / "README.md").read_text() == render_card(meta, CHECKPOINT.name)


@pytest.fixture(scope="module")
def predictor() -> Any:
    return covid_mm.load_predictor()


def test_the_snippet_of_the_usage_page_answers_a_phantom(predictor, tmp_path, monkeypatch, capsys):
    """As it stands, but for the network, which is loaded once for this module."""
    monkeypatch.setattr(covid_mm, "load_predictor", lambda: predictor)
    monkeypatch.chdir(tmp_path)
    study = make_study(0, seed=11)
    Image.fromarray(study.ct).save("slice.png")
    Image.fromarray(study.xray).save("film.jpeg")
    usage = (CHECKPOINT.parents[1] / "docs" / "usage.md").read_text(encoding="utf-8")
    (snippet,) = (
        text for text in re.findall(r"```python\n(.*?)```", usage, re.DOTALL) if "load_predictor" in text
    )
    exec(compile(snippet, "docs/usage.md", "exec"), {})
    label, ct, xray = capsys.readouterr().out.splitlines()
    assert label.startswith(("normal {", "covid19_pneumonia {", "undetermined {"))
    assert ct.startswith("ct {")
    assert xray.startswith("xray {")
    assert ct.endswith(str(study.ct.shape))  # the whole image
    assert xray.endswith(str(study.xray.shape))


def test_phantoms_get_finite_answers(predictor):
    for label in (0, 1):
        study = make_study(label, 5)
        answer = predictor.predict(ct=study.ct, xray=study.xray)
        assert answer.reason in (None, "in_abstain_zone", "branches_disagree")
        assert sum(answer.probabilities.values()) == pytest.approx(1.0)
        assert max(answer.probabilities.values()) <= answer.supported_probability + 1e-9
        for modality, heatmap in answer.heatmaps.items():
            assert heatmap.shape == answer.images[modality].shape[:2] == (224, 224)
            assert np.isfinite(heatmap).all()
            x0, y0, x1, y1 = answer.lungs[modality]
            inside = heatmap[
                int(y0 * 224) : int(np.ceil(y1 * 224)) + 1, int(x0 * 224) : int(np.ceil(x1 * 224)) + 1
            ]
            assert heatmap.sum() == pytest.approx(inside.sum(), rel=1e-3)  # nothing outside what was read
        assert answer.evidence.auc == pytest.approx(predictor.metadata.evidence["fused"].auc)


@pytest.mark.real_data
def test_it_is_as_good_on_held_out_images_as_its_card_says(loaded, meta, real_data):
    from covid_mm.evaluation.checkpoint import evaluate_checkpoint, find_images
    from covid_mm.serving.checkpoint import load_segmenter

    network, checked = loaded
    images = find_images({"data": real_data}, checked)
    evaluation = evaluate_checkpoint(network, checked, images, load_segmenter(CHECKPOINT, checked))
    assert set(evaluation.reports) == HEADS
    for head, report in evaluation.reports.items():
        written = meta["metrics"]["validation"][head]["counts"]
        assert report.counts.total == sum(written.values())
        for name, count in report.counts.to_dict().items():
            assert abs(count - written[name]) <= 2, (head, name)  # other hardware may round an image over
    for head, needed in NEEDED.items():
        counts = evaluation.reports[head].counts
        assert counts.correct / counts.total >= needed, head


def test_scans_are_calibrated_as_the_results_say():
    from covid_mm.reporting.scan_tables import choose_phantoms
    from covid_mm.serving.metadata import read_metadata

    meta = read_metadata(CHECKPOINT)
    measured = json.loads((RESULTS / "scans.json").read_text())["tables"]
    assert set(meta.scan.heads) == set(measured) == {"ct", "fused"}
    for head, part in meta.scan.heads.items():
        table = measured[head]
        assert (part.temperature, part.offset) == (
            table["calibration"]["temperature"],
            table["calibration"]["offset"],
        )
        assert part.threshold == table["threshold"]
        assert part.evidence is not None
        assert part.evidence.images == table["evidence"]["images"]
    assert meta.scan.heads["ct"].evidence.unit == "scans"
    phantoms = json.loads((RESULTS / "scans.json").read_text())["phantoms"]
    assert meta.raw["scan"]["measured"]["phantoms"] == choose_phantoms(phantoms, meta.scan.share)


@pytest.mark.slow  # Keras builds the network, and it is converted three times
def test_it_can_be_exported(tmp_path):
    from covid_mm.publishing.onnx_export import TOLERANCE, export_onnx

    folder = tmp_path / CHECKPOINT.name
    shutil.copytree(CHECKPOINT, folder, ignore=shutil.ignore_patterns("onnx"))
    differences = export_onnx(folder, progress=lambda name: None)
    assert {"logits fused", "evidence ct", "contents xray"} <= set(differences)
    assert max(differences.values()) <= TOLERANCE
