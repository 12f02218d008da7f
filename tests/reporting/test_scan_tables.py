"""The model card's section on whole CT scans, from the field `scan` of meta.json."""

from __future__ import annotations

from typing import Any

import pytest

from covid_mm.evaluation.intervals import Estimate, Proportion
from covid_mm.reporting.scan_tables import choose_phantoms, describe_scans

AUC = Estimate(value=0.91, low=0.8, high=0.97, confidence=0.95).to_dict()


def make_meta(**measured: Any) -> dict[str, Any]:
    def row(rule: str, successes: int) -> dict[str, Any]:
        share = Proportion.of(successes, 10).to_dict()
        return {"rule": rule, "collection": "one", "auc": AUC, "sensitivity": share, "specificity": None}

    part = {
        "temperature": 1.1,
        "offset": -0.5,
        "threshold": 0.5,
        "abstain_zone": [0.4, 0.6],
        "supported_probability": 0.9,
        "evidence": {
            "auc": 0.9,
            "auc_low": 0.8,
            "auc_high": 0.95,
            "sensitivity": 0.7,
            "specificity": 0.8,
            "collections": ["one"],
            "images": 20,
            "ece": 0.1,
            "unit": "scans",
        },
    }
    counts = {"positive": 10, "normal": 9, "normal_parts": 4, "slices": 30, "most_slices": 99}
    rules = [row("mean of the top 10%", 1), row("mean of the top 20%", 8)]
    found = {"rules": rules, "fusion": [], "scans": [{"collection": "one"} | counts]}
    return {"scan": {"share": 0.2, "heads": {"ct": part}, "measured": found | measured}}


def test_the_served_rules_figures_and_calibration_stand_in_the_card():
    said = describe_scans(make_meta())
    assert said is not None
    assert said["share"] == "20 %"
    assert "| one | 10 | 9 (4) | 30 (99) | 0.910 (0.800 to 0.970) | 8/10 = 80.00 %" in said["collections"]
    assert (
        "| 20 scans | 0.900 (0.800 to 0.950) | 70.0 % | 80.0 % | 10.0 % | 1.100 | -0.500 |" in said["heads"]
    )
    assert said["lesions"] == ""
    assert describe_scans({}) is None


def test_lesions_are_found_by_their_volume():
    def bands(share: float) -> list[dict[str, Any]]:
        few, many = (Proportion.of(count, 4).to_dict() for count in (1, round(4 * share)))
        return [
            {"from_ml": 0, "to_ml": 5, "found": few},
            {"from_ml": 5, "to_ml": 30, "found": None},
            {"from_ml": 30, "to_ml": 10_000, "found": many},
        ]

    rules = [{"share": share, "auc": AUC, "bands": bands(share)} for share in (0.0, 0.2, 1.0)]
    chosen = choose_phantoms({"bodies": 6, "rules": rules}, 0.2)
    said = describe_scans(make_meta(phantoms=chosen))
    assert said is not None
    assert said["bodies"] == 6
    lines = said["lesions"].splitlines()
    assert lines[2].startswith("| 0 to 5 ml | 1/4 = 25.00 %")
    assert lines[3] == "| 5 to 30 ml | n/a |"
    assert lines[4].startswith("| more than 30 ml | 1/4")
    with pytest.raises(ValueError, match="unpack"):
        choose_phantoms({"bodies": 6, "rules": rules}, 0.3)
