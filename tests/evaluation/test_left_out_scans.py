"""Scans from slices: which slices are one, how rules pool them, what serving gets of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from covid_mm.datasets.index import Collection, CollectionImage
from covid_mm.evaluation import scans
from covid_mm.evaluation.left_out import tabulate_left_out
from covid_mm.evaluation.scans import LeftOutScans, ScansMeasured, compare_rules, find_scans
from covid_mm.serving.scan_rule import ScanRule, apply_scan_fields


def make_collection(patients: list[str], *, in_order: bool = False) -> Collection:
    images = tuple(
        CollectionImage(
            path=Path(f"{n}.png"), name=f"{n}.png", modality="ct", label=0, patient=patient, site=""
        )
        for n, patient in enumerate(patients)
    )
    return Collection("one", "ct", images, "One", "", "", in_order=in_order)


def test_a_scan_is_a_patient_and_runs_of_normal_slices_are_parts():
    patients = ["a"] * 12 + ["b"] * 2 + [""] + ["c"] * 4
    labels = np.array([0] * 6 + [1] * 2 + [0] * 4 + [1, 1] + [0] + [0] * 4)
    result = find_scans(make_collection(patients), np.arange(19), labels)
    assert [(rows.tolist(), patient, part) for rows, patient, part in result] == [
        (list(range(12)), "a", False),
        (list(range(6)), "a", True),  # the second run has four slices only
        ([15, 16, 17, 18], "c", False),  # b has two slices, and nobody's slice is no scan
    ]


def test_without_patients_clusters_are_scans_only_in_order(monkeypatch):
    monkeypatch.setattr(scans, "group_records", lambda dataset: np.array([0, 0, 0, 3, 3, 3, 6]))
    labels = np.array([1, 1, 1, 0, 0, 0, 0])
    result = find_scans(make_collection([""] * 7, in_order=True), np.arange(7), labels)
    assert [(rows.tolist(), patient) for rows, patient, _ in result] == [
        ([0, 1, 2], "cluster 0"),
        ([3, 4, 5], "cluster 3"),
    ]
    assert find_scans(make_collection([""] * 7), np.arange(7), labels) == []


def draw_scans(name: str, count: int, seed: int) -> LeftOutScans:
    """Positive scans have two of their slices 4 logits higher."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    rows, margins = [], []
    for number, label in enumerate(labels):
        part = rng.normal(-2, 1, 20)
        part[: 2 * label] += 4
        rows.append(np.arange(20 * number, 20 * number + 20))
        margins.append(part)
    patients = np.array([f"{name}{n}" for n in range(count)])
    features = np.zeros((20 * count, 3), np.float32)
    return LeftOutScans(
        name,
        tuple(rows),
        labels.astype(np.int64),
        patients,
        np.zeros(count, bool),
        np.concatenate(margins),
        features,
    )


@pytest.fixture(scope="module")
def drawn() -> list[LeftOutScans]:
    return [draw_scans("first", 40, 1), draw_scans("second", 30, 2)]


def test_the_mean_of_the_top_finds_small_lesions_that_the_mean_of_all_does_not(drawn):
    rows = {(row["rule"], row["collection"]): row for row in compare_rules(drawn)}
    assert len(rows) == 2 * 9
    for name in ("first", "second"):
        assert rows["mean of the top 20%", name]["auc"]["value"] > 0.95
        assert rows["mean of all", name]["auc"]["value"] < rows["mean of the top 20%", name]["auc"]["value"]
        assert rows["noisy-or", name]["sensitivity"]["total"] == drawn[name == "second"].labels.sum()


def test_what_serving_gets_is_what_was_measured(drawn):
    table = tabulate_left_out(
        [part.predict([ScanRule(0.2).pool(part.margins[r]) for r in part.rows]) for part in drawn]
    )
    measured = ScansMeasured({"ct": table}, (), (), tuple(part.describe() for part in drawn))
    again = ScansMeasured.from_dict(measured.to_dict())
    assert again.to_dict() == measured.to_dict()
    meta = measured.to_meta()
    assert meta["share"] == 0.2
    ct = meta["heads"]["ct"]
    assert (ct["temperature"], ct["offset"]) == (table.calibration.temperature, table.calibration.offset)
    assert ct["evidence"]["unit"] == "scans"
    assert ct["evidence"]["images"] == 70
    assert meta["measured"]["scans"][0] == {
        "collection": "first",
        "positive": 20,
        "normal": 20,
        "normal_parts": 0,
        "slices": 20,
        "most_slices": 20,
    }
    shown = apply_scan_fields({"scan": meta, "decision_threshold": {"ct": 0.3, "xray": 0.4}})
    assert shown["decision_threshold"] == {"ct": 0.5, "xray": 0.4}
    assert apply_scan_fields({"temperature": 1}) == {"temperature": 1}


def test_a_fold_without_scans_of_both_classes_gives_none(monkeypatch):
    run = SimpleNamespace(
        collection=lambda modality, name: make_collection(["a"] * 4),
        labelled_rows=lambda collection, rows: np.arange(4),
        crops={"one": SimpleNamespace(labels=np.ones(4, np.int64))},
    )
    fold = SimpleNamespace(name="one", rows={"one": np.ones(4, bool)})
    branch = SimpleNamespace(modality="ct", fold=fold, answers={})
    assert scans.gather_scans(run, branch) is None
    assert scans.gather_scans(run, SimpleNamespace(modality="xray", fold=fold)) is None
    assert scans.measure_scans(SimpleNamespace(network=SimpleNamespace(modalities=("xray",))), []) is None
    assert dataclasses.is_dataclass(LeftOutScans)
