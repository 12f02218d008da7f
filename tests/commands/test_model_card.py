"""The model card says the counts, the caveats, the commands and the comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from covid_mm.commands.model_card import PAIRING, render_card
from covid_mm.evaluation.report import evaluate_binary

BRANCHES = [["ct", "densenet121"], ["xray", "mobilenet"]]


def report(right: int, wrong: int) -> dict[str, Any]:
    """So many right and wrong answers in each class."""
    scores = np.array([0.1] * right + [0.9] * wrong + [0.9] * right + [0.1] * wrong)
    labels = np.repeat([0, 1], right + wrong)
    return evaluate_binary(scores, labels).to_dict()


def data(modality: str, name: str, caveats: list[str]) -> dict[str, Any]:
    return {
        "modality": modality,
        "name": name,
        "source": f"https://example.org/{modality}",
        "licence": f"licence of {modality}",
        "counts": {
            "train": {"normal": 871, "covid19_pneumonia": 862},
            "validation": {"normal": 358, "covid19_pneumonia": 390},
        },
        "split_hash": "0" * 64,
        "caveats": caveats,
    }


@pytest.fixture
def meta() -> dict[str, Any]:
    heads = {"fused": report(373, 1), "ct": report(360, 14), "xray": report(365, 9)}
    return {
        "pair": "densenet121-mobilenet",
        "network": {"branches": BRANCHES, "head_width": 256, "dropout": 0.3, "image_size": 150},
        "synthetic": False,
        "trained_on": "1733 CT images and 1750 X-ray images",
        "trained_at": "2026-01-02",
        "data": [data("ct", "Slices", ["Slices of one patient."]), data("xray", "Films", ["Children."])],
        "split": {"protocol": "paper", "seed": 0, "hashes": {}},
        "metrics": {"validation": heads},
        "temperature": dict.fromkeys(heads, 1.25),
        "initial_weights": {
            "ct": {"kind": "run", "origin": "the ct densenet121 of run first", "commands": ["python first"]},
            "xray": {"kind": "file", "origin": "weights file some.h5", "commands": []},
        },
        "validation_seen_before": ["xray"],
        "training": {
            "fine_tune": "last-block",
            "learning_rate": 2e-3,
            "final_learning_rate": 1e-3,
            "batch_size": 32,
            "steps_per_epoch": 100,
        },
        "epochs_run": {head: {"best": 7, "of": 20, "seconds": 100} for head in heads},
        "float16_changes": {
            head: {"studies": 748, "greatest_probability_change": 0.00123, "labels_changed": 1}
            for head in heads
        },
        "heatmap_scale_is": "99th percentile",
        "seed": 0,
        "command": "python train.py --data data",
        "packages": {"keras": "3.15"},
        "comparisons": [],
    }


def test_card_says_the_good_and_the_bad(meta):
    card = render_card(meta, "densenet121-mobilenet")
    assert card.startswith("# densenet121-mobilenet\n")
    for said in (
        "Research use only, not for diagnosis.",
        "871 / 358",
        "862 / 390",
        "licence of xray",
        "https://example.org/ct",
        "746",  # of 748 pairs
        "748",
        "Slices of one patient.",
        "Children.",
        PAIRING,
        "images of one patient on both sides",
        "X-ray backbone started from weights that had learned from another division",
        "the ct densenet121 of run first",
        "weights file some.h5",
        "python first\npython train.py --data data",
        "best epoch 7 of 20",
        "0.00123, 1 of 748 labels changed",
        "1.250",
        "99.87",  # the paper's figure beside ours
        "keras 3.15",
        "last-block",
    ):
        assert said in card, said
    assert "phantoms" not in card
    assert "None" not in card


def test_every_head_has_its_counts(meta):
    card = render_card(meta, "x")
    for right, wrong in ((373, 1), (360, 14), (365, 9)):
        row = [line for line in card.splitlines() if f"| {right} " in line.replace("|  ", "| ")]
        assert row, (right, wrong)


def test_comparisons_have_their_own_section(meta):
    meta["comparisons"] = [
        {
            "title": "Grouped split",
            "text": "Harder.",
            "metrics": {"ct": report(300, 74)},
            "commands": ["python train.py --split grouped"],
        }
    ]
    card = render_card(meta, "x")
    assert "## Grouped split\n\nHarder." in card
    assert "python train.py --split grouped" in card
    assert "600" in card


def test_phantoms_are_said_at_once_and_not_compared_with_the_paper(meta):
    meta |= {"synthetic": True, "validation_seen_before": []}
    card = render_card(meta, "x")
    assert "**Trained on synthetic phantoms, not on patients" in card.split("## Data")[0]
    assert "Table III" not in card
    assert "another division" not in card


def test_single_networks_have_a_card(meta):
    meta |= {
        "pair": "xray-mobilenet",
        "network": meta["network"] | {"branches": BRANCHES[1:]},
        "data": meta["data"][1:],
        "metrics": {"validation": {"xray": report(365, 9)}},
        "initial_weights": {"xray": meta["initial_weights"]["xray"]},
    }
    card = render_card(meta, "xray-mobilenet")
    assert "concatenated" not in card.split("## Data")[0]
    assert PAIRING not in card
