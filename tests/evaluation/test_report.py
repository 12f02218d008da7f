"""The whole report, its JSON and its tables."""

from __future__ import annotations

import json

import numpy as np
import pytest

from covid_mm.config import BACKBONES, MODALITIES, PAIRS, NetworkConfig
from covid_mm.errors import DataError, UsageError
from covid_mm.evaluation import BinaryReport, estimate_auc, evaluate_binary, wilson_interval
from covid_mm.reporting.card_tables import metrics_table, tabulate_confusion
from covid_mm.reporting.card_writer import CARD
from covid_mm.reporting.paper_table import PAPER_TABLE, find_paper_row
from covid_mm.reporting.tables import format_table, paper_comparison_table

LABELS = [1, 1, 1, 0, 0, 0, 0]
SCORES = [0.9, 0.5, 0.2, 0.8, 0.49, 0.1, 0.0]


@pytest.fixture
def report() -> BinaryReport:
    return evaluate_binary(SCORES, LABELS)


def test_report_holds_counts_values_and_intervals(report):
    assert report.images == {"normal": 4, "covid19_pneumonia": 3}
    assert (report.accuracy.successes, report.accuracy.total) == (5, 7)
    assert report.accuracy.value == report.counts.accuracy
    assert (report.sensitivity.successes, report.sensitivity.total) == (2, 3)
    assert (report.specificity.low, report.specificity.high) == wilson_interval(3, 4)
    assert report.auc == estimate_auc(SCORES, LABELS)
    assert report.brier == pytest.approx(np.mean((np.array(SCORES) - LABELS) ** 2))


def test_threshold_moves_the_rates_but_not_the_area(report):
    strict = evaluate_binary(SCORES, LABELS, threshold=0.85)
    assert (strict.sensitivity.successes, strict.specificity.successes) == (1, 4)
    assert strict.auc == report.auc


def test_report_survives_json(report):
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert BinaryReport.from_dict(json.loads(text)) == report


def test_one_class_alone_leaves_the_rest_unmeasured():
    report = evaluate_binary([0.1, 0.9], [0, 0])
    assert report.sensitivity is None
    assert report.auc is None
    assert report.specificity.value == 0.5
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["auc"] is None
    assert BinaryReport.from_dict(values) == report
    assert metrics_table({"x": report}).count("n/a") == 2


def test_report_refuses_nan():
    with pytest.raises(DataError, match="NaN"):
        evaluate_binary([0.1, np.nan], [0, 1])


def test_wider_confidence_widens_the_intervals(report):
    wide = evaluate_binary(SCORES, LABELS, confidence=0.99)
    assert wide.accuracy.low < report.accuracy.low
    assert wide.auc.low < report.auc.low
    assert "99 % interval" in metrics_table({"x": wide})
    with pytest.raises(UsageError, match="one confidence"):
        metrics_table({"x": wide, "y": report})


def test_metrics_table_shows_counts_and_intervals():
    scores = [0.99] * 390 + [0.01] + [0.01] * 359
    report = evaluate_binary(scores, [1] * 391 + [0] * 359)
    header, rule, row = metrics_table({"Fused": report}).split("\n")
    assert header.count("|") == rule.count("|") == row.count("|") == 7
    assert "95 % interval" in header
    assert row.startswith("| Fused | 359 + 391 | 749/750 = 99.87 % (99.25 to 99.98) | 390/391 = 99.74 %")
    assert "359/359 = 100.00 % (98.94 to 100.00)" in row


def test_confusion_table_has_truth_in_rows(report):
    lines = tabulate_confusion(report.counts.to_dict(), CARD).markdown.split("\n")
    assert lines[0] == "|  | predicted: Normal | predicted: COVID-19 pneumonia |"
    assert lines[2] == "| actual: Normal | 3 | 1 |"
    assert lines[3] == "| actual: COVID-19 pneumonia | 1 | 2 |"


def test_tables_escape_bars_and_refuse_ragged_rows():
    assert format_table(["a"], [["x|y"]]).endswith("| x\\|y |")
    with pytest.raises(UsageError, match="needs 2 cells"):
        format_table(["a", "b"], [["only one"]])


@pytest.mark.parametrize("row", PAPER_TABLE, ids=lambda row: row.name)
def test_the_papers_counts_give_its_percentages(row):
    assert row.counts.positive == 391
    assert row.counts.negative == 359
    # the table rounds some figures and cuts others short, so allow one unit of the last digit
    assert row.counts.accuracy * 100 == pytest.approx(row.accuracy, abs=0.01)
    assert row.counts.sensitivity * 100 == pytest.approx(row.sensitivity, abs=0.01)
    assert row.counts.specificity * 100 == pytest.approx(row.specificity, abs=0.01)


def test_the_papers_table_names_our_nine_networks():
    singles = [
        NetworkConfig.single(name, "ct" if name in MODALITIES["ct"].paper_backbones else "xray")
        for name in BACKBONES
    ]
    ours = {config.name for config in singles} | {NetworkConfig.pair(name).name for name in PAIRS}
    assert {row.name for row in PAPER_TABLE} == ours
    assert find_paper_row("ct-mobilenet") is None


def test_comparison_stands_beside_the_paper(report):
    lines = paper_comparison_table({"densenet121-mobilenet": report, "ct-mobilenet": report}).split("\n")
    assert lines[2].startswith("| DenseNet121 and MobileNet | 5/7 = 71.43 %")
    assert "749/750 = 99.87 %" in lines[2]
    assert lines[2].endswith("| 66.67 | 99.74 | 75.00 | 100.00 |")
    assert lines[3].count("n/a") == 3
