"""The model card says the counts, the caveats, the commands and the comparisons."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import yaml

from covid_mm.evaluation.left_out import LeftOutTable
from covid_mm.evaluation.report import evaluate_binary
from covid_mm.reporting.card_words import CONTENT_CHECK, HELD_OUT, PAIRS_AGREED, SPLITS, TUNED
from covid_mm.reporting.model_card import PAIRING, render_card
from covid_mm.reporting.served_facts import INDEPENDENCE, training_table

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
    assert card.split("---\n", 2)[2].startswith("\n# densenet121-mobilenet\n")
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
        SPLITS["paper"],
        TUNED["best"],
        PAIRS_AGREED,
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


def test_the_last_epoch_is_not_called_the_best(meta):
    meta["training"] |= {"kept_epoch": "last"}
    card = render_card(meta, "x")
    assert TUNED["last"] in card
    assert "epoch 7 of 20" in card
    assert "best epoch" not in card


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


# --- the served recipe


def test_served_card_says_what_was_planted(served):
    card = render_card(served, "densenet121-mobilenet")
    for said in (
        "## On collections that it never saw",
        "the worst, medseg-ct",
        "**not told apart from guessing**",
        "over 99 % sure and wrong most often: lung-ct, 7/40 = 17.50 %",
        "SARS-CoV-2 CT-scan (`sars`)",
        "training (4040 images)",
        "evaluation only",
        "1111",
        "2222",
        "lungs not found most often in sars, 17/300 = 5.67 %",
        "nor their outline, the AUC should be near 0.5. The highest is lungs and their outline blanked out, sars:",
        "outline of the lungs stays, or what of them lies in the border, the highest is lungs blanked out, sars: 0.734",
        "of 99 ct normal images, 87.6 % are traced",
        "in 11.1 % of 123 left-out images; by chance 21.3 %: **no better than chance**",
        "scanners-1 63.4 %",
        "**below chance**",
        "**X-ray:** not measured",
        "0.313",
        INDEPENDENCE,
        "371/374 = 99.20 %",
        "**These figures do not say what the network is worth elsewhere.**",
        "0.5123",
        "5/744 = 0.67 %",
        CONTENT_CHECK.format(ct=800, xray=801, neither=1200),
        HELD_OUT,
        "MedSeg has only 8 patients",
        "SARS-CoV-2 CT-scan names no patients",
        "CT collections with both classes: 2 (SARS-CoV-2 CT-scan, MedSeg)",
        "CoronaHack shows children,",
        "The segmenter saw masks of all collections.",
        "non-commercial research only: SARS-CoV-2 CT-scan (CC BY-NC-SA 4.0)",
        "| appearance.gamma | 0.3 | 0.3 |",
        "```\npython train.py --data data\n```",
        "0.00321, 2 of 748 labels changed",
    ):
        assert said in card, said
    assert "None" not in card
    assert "\n\n\n" not in card


def test_left_out_figures_come_before_those_of_the_papers_split(served):
    card = render_card(served, "x")
    order = ["## On collections", "## Shortcuts", "## Heatmaps", "## Inside the training", "## Sets whose"]
    positions = [card.index(heading) for heading in order]
    assert positions == sorted(positions)
    assert "371/374" not in card.split("## Inside the training")[0]


def test_front_matter_is_yaml_with_left_out_figures_alone(served):
    card = render_card(served, "densenet121-mobilenet")
    head = yaml.safe_load(card.split("---\n")[1])
    assert (head["license"], head["license_name"]) == ("other", "non-commercial-research")
    assert (head["library_name"], head["pipeline_tag"]) == ("keras", "image-classification")
    assert head["datasets"] == ["sars", "medseg-ct", "siim-covid19", "coronahack"]
    results = head["model-index"][0]["results"]
    assert len(results) == 6  # three heads of two collections with both classes
    worst = next(r for r in results if r["dataset"]["type"] == "medseg-ct")
    auc = next(m["value"] for m in worst["metrics"] if m["type"] == "roc_auc")
    assert auc == round(LeftOutTable.from_dict(served["left_out"]["heads"][1]).worst.auc.value, 4)


def test_paper_cards_have_no_figures_in_their_front_matter(meta):
    head = yaml.safe_load(render_card(meta, "x").split("---\n")[1])
    assert "model-index" not in head
    assert head["license_name"] == "as-the-training-data"


def test_what_was_not_measured_is_said(served):
    for name in ("left_out", "refusals", "external", "heat_location", "content_check"):
        del served[name]
    served["metrics"] = {"validation": {}}
    card = render_card(served, "x")
    assert "**Not measured.** No collection was left out of training" in card
    assert "How often that happens by collection was not measured." in card
    for heading in ("## Inside the training", "## Sets whose", "## The content check", "## Shortcuts"):
        assert heading not in card


def test_one_collection_is_neither_a_mean_nor_a_worst(served, lone_table):
    served["left_out"] = {"heads": [lone_table.to_dict()]}
    card = render_card(served, "x")
    assert "only one collection with both classes was left out" in card
    assert "Calibrated on itself for want of others, which flatters: alone." in card


@pytest.mark.parametrize("field", ["title", "name", "source", "licence", "annotations"])
def test_markup_in_a_data_set_stays_text(served, nasty, field):
    lines = len(render_card(served, "x").splitlines())
    served["data"][1][field] = nasty
    check_harmless(render_card(served, "x"), lines)


def test_markup_in_a_collections_figures_stays_text(served, nasty):
    lines = len(render_card(served, "x").splitlines())
    left_out = json.loads(json.dumps(served["left_out"]).replace("medseg-ct", json.dumps(nasty)[1:-1]))
    served |= {"left_out": left_out, "command": served["command"]}
    served["refusals"][0]["collection"] = served["external"][0]["collection"] = nasty
    served["content_check"]["measured"][0]["images"] = served["trained_on"] = nasty
    check_harmless(render_card(served, "x"), lines)


def check_harmless(card: str, lines: int) -> None:
    """No tag, link, emphasis, row or heading came out of the planted text, and the YAML still parses."""
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "keras"
    assert "<img" not in body
    assert re.search(r"(?<!\\)\[a\]", body) is None
    assert re.search(r"(?<!\\)\*\*?d", body.replace("\\*\\*d", "")) is None
    assert re.search(r"^#+ e", body, flags=re.MULTILINE) is None
    assert len(card.splitlines()) == lines
    for table in re.findall(r"(?:^\|.*\n)+", body, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


def test_a_command_cannot_leave_its_block(served):
    served["command"] = "python train.py\n```\n# heading"
    assert "````\npython train.py\n```\n# heading\n````" in render_card(served, "x")


@pytest.mark.parametrize("name", ["data", "network", "training", "packages"])
def test_a_card_lacks_what_it_is_drawn_from(served, name):
    del served[name]
    with pytest.raises(KeyError):
        render_card(served, "x")


def test_the_recipes_table_numbers_what_a_branch_has_several_of():
    teachers = [{"backbone": "densenet121", "steps": 1600}, {"backbone": "mobilenet", "steps": 800}]
    table = training_table(
        {"ct": {"steps": 2400, "teachers": teachers}, "xray": {"steps": 3000, "teachers": []}}
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert ["steps", "2400", "3000"] in rows
    assert ["teachers.1.backbone", "densenet121", r"\-"] in rows
    assert ["teachers.2.steps", "800", r"\-"] in rows
    assert "{" not in table
