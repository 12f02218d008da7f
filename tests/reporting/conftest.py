"""A made-up meta.json of the served recipe, whose figures are planted so that they can be found again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from covid_mm.evaluation.fusion import compare_fusion, draw_pairs
from covid_mm.evaluation.heat_location import HeatRow
from covid_mm.evaluation.left_out import LeftOutPredictions, LeftOutTable, tabulate_left_out
from covid_mm.evaluation.report import evaluate_binary
from covid_mm.evaluation.shortcuts import ShortcutRow, SourceRow
from covid_mm.reporting.served_facts import describe_limits

BRANCHES = [["ct", "densenet121"], ["xray", "mobilenet"]]


def make_report(right: int, wrong: int) -> dict[str, Any]:
    """So many right and wrong answers in each class."""
    scores = np.array([0.1] * right + [0.9] * wrong + [0.9] * right + [0.1] * wrong)
    return evaluate_binary(scores, np.repeat([0, 1], right + wrong)).to_dict()


def make_collection(name: str, head: str, gap: float, seed: int, images: int = 60) -> LeftOutPredictions:
    """Both classes, `gap` logits apart: 0 is guessing."""
    labels = np.arange(images) % 2
    margins = np.random.default_rng(seed).normal(gap * labels, 1.0)
    return LeftOutPredictions(name, head, margins, labels, np.array([f"p{n // 2}" for n in range(images)]))


def make_left_out() -> dict[str, Any]:
    """Two two-class collections a head, of CT one is guessing; a one-class CT collection with false alarms."""
    normals = LeftOutPredictions(
        "lung-ct", "ct", np.array([-3.0] * 33 + [40.0] * 7), np.zeros(40, np.int64), np.full(40, "")
    )
    heads = {
        "fused": [
            make_collection("good pairs", "fused", 4.0, 1),
            make_collection("bad pairs", "fused", 1.5, 2),
        ],
        "ct": [make_collection("sars", "ct", 3.0, 3), make_collection("medseg-ct", "ct", 0.0, 4), normals],
        "xray": [
            make_collection("scanners-1", "xray", 2.5, 5),
            make_collection("scanners-2", "xray", 2.0, 6),
        ],
    }
    rng = np.random.default_rng(7)
    labels = np.arange(40) % 2
    pairs = draw_pairs({"ct": labels, "xray": labels}, per_kind=10)
    branch = {m: rng.normal(4.0 * labels - 2.0, 1.0) for m in ("ct", "xray")}
    fused = branch["ct"][pairs.rows["ct"]] + branch["xray"][pairs.rows["xray"]]
    comparison = compare_fusion(pairs, fused_logits=fused, branch_logits=branch)

    def heat(method: str, collection: str, hit: float) -> dict[str, Any]:
        return HeatRow(
            method, "fine", collection, 123, hit, hit - 0.05, hit + 0.05, 0.213, 0.4, None, None
        ).to_dict()

    return {
        "heads": [tabulate_left_out(parts, resamples=40).to_dict() for parts in heads.values()],
        "shortcuts": [
            ShortcutRow("whole", "sars", 0.912, 0.89, 0.93, 60).to_dict(),
            ShortcutRow("blank_lungs", "sars", 0.734, 0.69, 0.78, 60).to_dict(),
            ShortcutRow("blank_hull", "sars", 0.634, 0.59, 0.68, 60).to_dict(),
            ShortcutRow("border_only", "medseg-ct", 0.512, 0.43, 0.59, 60).to_dict(),
            ShortcutRow("border_beyond_lungs", "medseg-ct", 0.502, 0.42, 0.58, 60).to_dict(),
        ],
        "sources": [SourceRow("ct normal images", ("sars", "lung-ct"), 0.876, 0.5, 0.9, 99).to_dict()],
        "heatmaps": [
            heat("layer_cam", "scanners-1", 0.634),
            heat("layer_cam", "medseg-ct", 0.111),
            heat("grad_cam", "scanners-1", 0.222),
        ],
        "faithfulness": [
            {
                "collection": "scanners-1",
                "method": "layer_cam",
                "layer": "fine",
                "images": 40,
                "deletion": 0.313,
                "insertion": 0.767,
                "random_weights": {"correlation": 0.045, "images": 40, "constant": 0},
            }
        ],
        "fusion": comparison.to_dict(),
        "notes": ["The segmenter saw masks of all collections."],
    }


def describe(modality: str, name: str, title: str, use: str, **changes: Any) -> dict[str, Any]:
    """One entry of meta.json's `data`."""
    return {
        "modality": modality,
        "name": name,
        "title": title,
        "source": f"https://example.org/{name}",
        "licence": "research use",
        "counts": {"normal": 1111, "covid19_pneumonia": 2222, "other": 33},
        "use": use,
        "sites": 5,
        "patients": 777,
        "annotations": "",
    } | changes


@pytest.fixture(scope="session")
def left_out() -> dict[str, Any]:
    return make_left_out()


@pytest.fixture
def nasty() -> str:
    """Text that would be markup if nobody escaped it."""
    return "<img src=x onerror=alert(1)> | [a](javascript:b) `c` **d**\n---\n# e"


@pytest.fixture
def lone_table() -> LeftOutTable:
    """A single collection of one head."""
    return tabulate_left_out([make_collection("alone", "ct", 2.0, 1)], resamples=20)


@pytest.fixture
def served(left_out: dict[str, Any]) -> dict[str, Any]:
    """meta.json of a network of the served recipe."""
    heads = {"fused": make_report(371, 3), "ct": make_report(355, 19), "xray": make_report(366, 8)}
    meta: dict[str, Any] = {
        "recipe": "served",
        "pair": "densenet121-mobilenet",
        "network": {"branches": BRANCHES, "head_width": 256, "dropout": 0.3, "image_size": 150},
        "synthetic": False,
        "trained_on": "4321 CT images and 5432 X-ray images",
        "trained_at": "2026-01-02",
        "data": [
            describe("ct", "sars", "SARS-CoV-2 CT-scan", "training", licence="CC BY-NC-SA 4.0", patients=0),
            describe("ct", "medseg-ct", "MedSeg", "training", patients=8, annotations="lesion masks"),
            describe(
                "ct", "lung-ct", "Lungs", "evaluation only", counts={"normal": 267, "covid19_pneumonia": 0}
            ),
            describe("xray", "siim-covid19", "SIIM-FISABIO-RSNA COVID-19", "training", trained=4040),
            describe("xray", "coronahack", "CoronaHack chest X-ray", "training"),
        ],
        "split": {"protocol": "paper", "seed": 0, "positives": "pneumonia", "hashes": {}},
        "metrics": {"validation": heads},
        "temperature": dict.fromkeys(heads, 1.5),
        "decision_threshold": dict.fromkeys(heads, 0.5),
        "heat_location": {
            "ct": {
                "target": "lesion masks",
                "hit": 0.111,
                "chance": 0.213,
                "images": 123,
                "method": "layer_cam",
                "layer": "fine",
            },
            "xray": None,
        },
        "heatmap_method": "layer_cam",
        "heatmap_layer": "fine",
        "heatmap_scale_is": "99th percentile",
        "left_out": left_out,
        "refusals": [
            {
                "collection": "sars",
                "modality": "ct",
                "images": 300,
                "lungs_not_found": 17,
                "unlike_training": 0,
            },
            {
                "collection": "lung-ct",
                "modality": "ct",
                "images": 267,
                "lungs_not_found": 2,
                "unlike_training": 0,
            },
        ],
        "external": [
            {
                "collection": "external-ct",
                "modality": "ct",
                "auc": 0.5123,
                "auc_low": 0.47,
                "auc_high": 0.55,
                "sensitivity": 0.8,
                "specificity": 0.234,
                "images": 746,
            }
        ],
        "training": {
            "ct": {"steps": 700, "appearance": {"gamma": 0.3}},
            "xray": {"steps": 1000, "appearance": {"gamma": 0.3}},
        },
        "initial_weights": {
            m: {"kind": "imagenet", "origin": "ImageNet", "commands": []} for m, _ in BRANCHES
        },
        "float16_changes": {
            head: {"studies": 748, "greatest_probability_change": 0.00321, "labels_changed": 2}
            for head in heads
        },
        "content_check": {
            "branch": "xray",
            "backbone": "mobilenet",
            "layer": "conv_pw_11_relu",
            "refusal": 0.85,
            "distance_limit": {"ct": 1.71, "xray": 1.92},
            "trained_on": {"ct": 800, "xray": 801, "neither": 1200},
            "measured": [
                {
                    "images": "validation images of sars",
                    "kind": "ct",
                    "slot": "ct",
                    "total": 744,
                    "outcomes": {
                        "answered": 739,
                        "other_modality": 0,
                        "not_a_chest_image": 0,
                        "unlike_training": 5,
                    },
                }
            ],
        },
        "seed": 3,
        "command": "python train.py --data data",
        "packages": {"keras": "3.15"},
    }
    return meta | {"limits": describe_limits(meta)}
