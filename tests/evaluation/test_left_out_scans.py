"""Scans from slices: which slices are one, how rules pool them, what serving gets of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from covid_mm.datasets.index import Collection, CollectionImage
from covid_mm.evaluation import scans
from covid_mm.evaluation.fusion import draw_pairs
from covid_mm.evaluation.left_out import tabulate_left_out
from covid_mm.evaluation.left_out_images import LeftOutImages
from covid_mm.evaluation.left_out_predictions import LeftOutPredictions
from covid_mm.evaluation.scans import (
    LeftOutScans,
    ScansMeasured,
    compare_rules,
    find_scans,
    measure_scan_fusion,
)
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


def test_a_scan_and_a_film_are_combined_three_ways_on_agreeing_pairs(drawn, monkeypatch):
    """A head that adds up what the features say, so that each way's margins are known by hand."""
    rng = np.random.default_rng(3)
    films = {}
    for name in ("here", "there"):
        labels = np.arange(60) % 2
        margins = rng.normal(4 * labels - 2.0, 1.0)
        patients = np.array([f"{name}{n}" for n in range(60)])
        predictions = LeftOutPredictions(name, "xray", margins, labels, patients)
        films[name] = LeftOutImages(predictions, margins[:, None].astype(np.float32))
    parts = [
        dataclasses.replace(
            part, features=np.column_stack([part.margins, rng.normal(size=part.margins.size)])
        )
        for part in drawn
    ]
    made = {
        "ct": [
            LeftOutPredictions(
                part.collection,
                "ct",
                part.margins,
                np.repeat(part.labels, 20),
                np.repeat(part.patients, 20),
            )
            for part in parts
        ],
        "xray": [film.predictions for film in films.values()],
    }

    def predict(features, **_):
        ct, film = features
        total = ct[:, 0] + 2 * film[:, 0]
        return np.column_stack([np.zeros_like(total), total])

    def fit(run, branches, fits):
        seen.append(tuple(branch.fold.name for branch in branches))
        return SimpleNamespace(predict=predict), {b.modality: fits[b.modality][b.fold.name] for b in branches}

    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr(scans, "gather_predictions", lambda run, modality, folds, served: made[modality])
    monkeypatch.setattr(scans, "gather_left_out", lambda run, branch: films[branch.fold.name])
    monkeypatch.setattr(scans, "fit_left_out_head", fit)
    run = SimpleNamespace(network=SimpleNamespace(modalities=("ct", "xray")), seed=5)
    folds = [
        SimpleNamespace(modality=modality, fold=SimpleNamespace(name=name))
        for modality, names in (("ct", ("first", "second", "without scans")), ("xray", films))
        for name in names
    ]
    rule = ScanRule(0.2)
    table = tabulate_left_out(
        [part.predict([rule.pool(part.margins[r]) for r in part.rows]) for part in parts]
    )
    served, rows = measure_scan_fusion(run, folds, parts, table)

    assert seen == [(ct, film) for ct in ("first", "second") for film in ("here", "there")]
    assert [one.collection for one in served] == [f"{ct} with {film}" for ct, film in seen]
    assert [row["way"] for row in rows] == ["pooled features", "most suspicious slice", "sum"]
    for number, (one, (ct, film)) in enumerate(zip(served, seen, strict=True)):
        part = parts[ct == "second"]
        pairs = draw_pairs(
            {"ct": part.labels, "xray": films[film].predictions.labels}, per_kind=250, seed=5 + number
        )
        chosen, filmed = (pairs.rows[m][pairs.agreeing] for m in ("ct", "xray"))
        assert len(one.margins) == 500
        np.testing.assert_array_equal(one.labels, part.labels[chosen])
        np.testing.assert_array_equal(one.patients, films[film].predictions.patients[filmed])
        pooled = np.array([rule.pool(part.margins[r]) for r in part.rows])
        expected = pooled[chosen] + 2 * films[film].predictions.margins[filmed]
        np.testing.assert_allclose(one.margins, expected, rtol=1e-5, atol=1e-5)
    for row in rows:
        assert row["images"] == 2000
        assert row["auc"] > 0.97


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
