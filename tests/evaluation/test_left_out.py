"""Left-out figures on cases worked out by hand: AUC by patient, Platt, zone, supported probability, table."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from covid_mm.errors import DataError, UsageError
from covid_mm.evaluation import (
    auc_interval,
    choose_threshold,
    expected_calibration_error,
    roc_auc,
    wilson_interval,
)
from covid_mm.evaluation.abstention import choose_abstain_zone, measure_zone, supported_probability
from covid_mm.evaluation.fusion import compare_fusion, draw_pairs
from covid_mm.evaluation.heat_location import HeatMeasure, summarise_heat
from covid_mm.evaluation.left_out import LeftOutPredictions, LeftOutTable, tabulate_left_out
from covid_mm.evaluation.left_out_predictions import balanced_weights, number_patients
from covid_mm.evaluation.patient_bootstrap import bootstrap_aucs, estimate_auc_by_patient
from covid_mm.evaluation.platt import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    OWN_TEMPERATURE,
    OWN_WEIGHT,
    Calibration,
    fit_calibration,
    leave_one_calibration,
)
from covid_mm.evaluation.reliability import measure_reliability, positive_calibration_error
from covid_mm.evaluation.shortcuts import ShortcutRow, SourceRow
from covid_mm.reporting.figures.left_out import draw_left_out_aucs, draw_reliability
from covid_mm.reporting.left_out_page import render_left_out
from covid_mm.reporting.left_out_tables import confidence_table, left_out_table, serving_table

LOG3 = math.log(3)


def predict(name: str, margins: object, labels: object, patients: object = None) -> LeftOutPredictions:
    """Predictions of the CT head; every image a patient of its own unless named."""
    margins = np.asarray(margins, dtype=np.float64)
    who = np.full(margins.size, "") if patients is None else np.asarray(patients)
    return LeftOutPredictions(name, "ct", margins, np.asarray(labels), who)


def quarters(name: str, high: float = 2.0, low: float = -2.0, times: int = 1) -> LeftOutPredictions:
    """Margins `high` right 3 times in 4, `low` right 3 times in 4, both classes alike."""
    return predict(name, [high] * 4 * times + [low] * 4 * times, [1, 1, 1, 0] * times + [0, 0, 0, 1] * times)


def make_collection(name: str, shift: float, seed: int, images: int = 120) -> LeftOutPredictions:
    generator = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    margins = generator.normal(shift + 3.0 * labels, 1.2)
    return predict(name, margins, labels, [f"p{number // 3}" for number in range(images)])


@pytest.fixture(scope="module")
def table() -> LeftOutTable:
    normals = predict("normals", [-3.0] * 8 + [9.0] * 2, [0] * 10)
    parts = [make_collection("a", -2.0, 1), make_collection("b", -1.0, 2), normals]
    return tabulate_left_out(parts, resamples=50)


# --- predictions


@pytest.mark.parametrize(
    ("margins", "labels", "patients", "message"),
    [
        ([0.0, np.nan], [0, 1], ["", ""], "finite margins"),
        ([0.0, 1.0], [0, 2], ["", ""], "Labels must be 0"),
        ([0.0, 1.0], [0, 1], [""], "as many margins as patients"),
        ([], [], [], "at least one image"),
    ],
)
def test_broken_predictions_are_refused(margins, labels, patients, message):
    with pytest.raises(DataError, match=message):
        predict("a", margins, labels, patients)


def test_predictions_survive_json():
    part = quarters("a")
    again = LeftOutPredictions.from_dict(json.loads(json.dumps(part.to_dict())))
    np.testing.assert_array_equal(again.margins, part.margins)
    assert again.to_dict() == part.to_dict()


def test_patients_without_a_name_are_their_own():
    numbers = number_patients(["a", "", "a", "", "b"], 5)
    assert numbers[0] == numbers[2]
    assert np.unique(numbers).tolist() == [0, 1, 2, 3]
    assert predict("x", [0, 1, 2], [0, 1, 1], ["a", "", "a"]).patient_count == 2


def test_weights_balance_collections_and_classes():
    weights = balanced_weights([0, 0, 1, 0, 1, 1, 1], ["a", "a", "a", "b", "b", "b", "b"])
    np.testing.assert_allclose(weights, [1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 12, 1 / 12, 1 / 12])


# --- AUC by patient


def test_auc_of_single_images_has_newcombes_interval():
    scores, labels = [0.1, 0.4, 0.35, 0.8, 0.4], [0, 0, 1, 1, 1]
    estimate = estimate_auc_by_patient(scores, labels)
    assert estimate.value == pytest.approx(roc_auc(scores, labels)) == pytest.approx(4.5 / 6)
    assert (estimate.low, estimate.high) == pytest.approx(auc_interval(4.5 / 6, 3, 2))


def test_a_perfect_auc_is_counted_in_patients_not_images():
    # ten images of two patients: as little is known as from one positive and one normal image
    estimate = estimate_auc_by_patient(np.arange(10), [0] * 5 + [1] * 5, ["n"] * 5 + ["p"] * 5)
    assert estimate.value == 1.0
    assert (estimate.low, estimate.high) == pytest.approx(auc_interval(1.0, 1, 1))


def test_bootstrap_agrees_with_a_plain_loop():
    part = make_collection("a", 0.0, 3, images=30)
    areas = bootstrap_aucs(part.margins, part.labels, part.patients, resamples=5, seed=4)
    drawn = np.random.default_rng(4).integers(0, 10, (5, 10))
    numbers = number_patients(part.patients, 30)
    for area, patients in zip(areas, drawn, strict=True):
        images = np.concatenate([np.flatnonzero(numbers == patient) for patient in patients])
        scores = (part.margins[images] + 20) / 40  # the plain AUC takes probabilities
        assert area == pytest.approx(roc_auc(scores, part.labels[images]))


def test_bootstrap_is_the_same_twice_and_wider_by_patient():
    generator = np.random.default_rng(0)
    level = np.repeat(generator.normal(0, 1, 30), 10)  # ten images per patient, alike
    labels = np.repeat(np.arange(30) % 2, 10)
    scores = level + labels + generator.normal(0, 0.1, 300)
    patients = np.repeat([f"p{k}" for k in range(30)], 10)
    first = estimate_auc_by_patient(scores, labels, patients, resamples=200)
    assert first == estimate_auc_by_patient(scores, labels, patients, resamples=200)
    single = estimate_auc_by_patient(scores, labels)
    assert first.high - first.low > 1.5 * (single.high - single.low)


def test_auc_needs_both_classes():
    with pytest.raises(DataError, match="both classes"):
        estimate_auc_by_patient([0.0, 1.0], [1, 1])


# --- Platt


def test_calibration_by_hand():
    # margins 5 and 1, each right 3 times in 4: log odds +- log 3, so offset 3 and T = 2 / log 3
    fit = fit_calibration([quarters("a", high=5.0, low=1.0)], own_weight=0.0)
    assert fit.offset == pytest.approx(3.0, abs=1e-4)
    assert fit.temperature == pytest.approx(2 / LOG3, rel=1e-4)
    np.testing.assert_allclose(fit.probabilities([5.0, 1.0, 3.0]), [0.75, 0.25, 0.5], atol=1e-4)


def test_the_networks_own_odds_count_as_two_populations():
    # two margins, so the fit meets the targets exactly: a third of what was right, two thirds of the network's own odds
    fit = fit_calibration([quarters("a", high=5.0, low=1.0)])
    own = 1 / (1 + np.exp(-np.array([5.0, 1.0]) / OWN_TEMPERATURE))
    np.testing.assert_allclose(
        fit.probabilities([5.0, 1.0]),
        (np.array([0.75, 0.25]) + OWN_WEIGHT * own) / (1 + OWN_WEIGHT),
        atol=1e-4,
    )


def test_the_more_collections_agree_the_less_the_networks_own_odds_count():
    offsets = [
        fit_calibration([quarters(f"{number}", high=5.0, low=1.0) for number in range(count)]).offset
        for count in (1, 4, 50)
    ]
    assert 0.0 < offsets[0] < offsets[1] < offsets[2] < 3.0
    assert offsets[2] > 2.7


def test_odds_that_are_calibrated_already_are_left_as_they_are():
    parts = [quarters("a", high=5.0, low=1.0), quarters("b", high=2.0, low=-2.0)]
    table = tabulate_left_out(parts, calibration=Calibration(1.0, 0.0, ()), resamples=5)
    assert {row.calibration for row in table.rows} == {table.calibration} == {Calibration(1.0, 0.0, ())}
    assert not any(row.is_own_calibration for row in table.rows)
    assert table.rows[0].sensitivity.value == 1.0  # by the others' calibration some are negative
    assert table.rows[0].specificity.value == 0.0


def test_groups_of_scanners_count_as_one_population():
    alone = quarters("a", high=5.0, low=1.0)
    groups = [dataclasses.replace(alone, collection=f"a-{number}", population="a") for number in range(3)]
    assert alone.population == "a"
    assert fit_calibration(groups).offset == pytest.approx(fit_calibration([alone]).offset, abs=1e-4)
    apart = [dataclasses.replace(one, population=one.collection) for one in groups]
    assert fit_calibration(apart).offset > fit_calibration(groups).offset + 0.1


def test_a_calibration_that_fits_is_left_as_it_is():
    margins = np.linspace(-4, 4, 9)
    positive = np.rint(1000 / (1 + np.exp(-margins / OWN_TEMPERATURE))).astype(int)
    labels = np.concatenate([[1] * count + [0] * (1000 - count) for count in positive])
    fit = fit_calibration([predict("a", np.repeat(margins, 1000), labels)])
    assert (fit.temperature, fit.offset) == pytest.approx((OWN_TEMPERATURE, 0.0), abs=0.01)


def test_large_collections_and_classes_weigh_no_more():
    few = predict("a", [2.0] * 4 + [-2.0] * 4, [1, 1, 1, 0, 0, 0, 0, 1])
    many = predict("a", [2.0] * 13 + [-2.0] * 7, [1] * 12 + [0] + [0] * 3 + [1] * 4)  # 16 positive, 4 normal
    assert fit_calibration([few]).temperature == pytest.approx(fit_calibration([many]).temperature, rel=1e-4)
    mixed = fit_calibration([quarters("a"), quarters("b", high=6.0, low=2.0, times=1)])
    grown = fit_calibration([quarters("a"), quarters("b", high=6.0, low=2.0, times=50)])
    assert (mixed.temperature, mixed.offset) == pytest.approx((grown.temperature, grown.offset), rel=1e-4)


def test_without_the_networks_own_odds_separable_margins_stop_at_the_floor_and_useless_ones_at_the_top():
    separable = predict("a", [-1.0, -2.0, 1.0, 2.0], [0, 0, 1, 1])
    fit = fit_calibration([separable], own_weight=0.0)
    assert fit.temperature == pytest.approx(MIN_TEMPERATURE)
    assert fit.offset == pytest.approx(0.0, abs=1e-5)
    turned_round = predict("a", [-1.0, -2.0, 1.0, 2.0], [1, 1, 0, 0])
    assert fit_calibration([turned_round], own_weight=0.0).temperature == pytest.approx(MAX_TEMPERATURE)
    assert MIN_TEMPERATURE < fit_calibration([separable]).temperature < OWN_TEMPERATURE


def test_each_collection_is_calibrated_on_the_others():
    parts = [quarters("a"), quarters("b", high=5.0, low=1.0), predict("normals", [0.0, 1.0], [0, 0])]
    fits = leave_one_calibration(parts)
    assert {name: fit.collections for name, fit in fits.items()} == {
        "a": ("b",),
        "b": ("a",),
        "normals": ("a", "b"),
    }
    assert fits["a"] == fit_calibration([parts[1]])
    alone = leave_one_calibration([parts[0], parts[2]])
    assert alone["a"].collections == alone["normals"].collections == ("a",)


def test_pairs_are_calibrated_on_pairs_that_share_neither_part():
    pairs = [
        dataclasses.replace(quarters(f"{ct} with {film}"), left_out=(ct, film))
        for ct in ("c", "d")
        for film in ("1", "2", "3")
    ]
    fits = leave_one_calibration(pairs)
    assert fits["c with 1"].collections == ("d with 2", "d with 3")
    turned = dataclasses.replace(pairs[1], labels=1 - pairs[1].labels)  # c with 2: shares c
    again = tabulate_left_out([pairs[0], turned, *pairs[2:]], resamples=5).rows[0]
    before = tabulate_left_out(pairs, resamples=5).rows[0]
    assert (again.calibration, again.threshold, again.zone) == (
        before.calibration,
        before.threshold,
        before.zone,
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([predict("a", [0.0], [0])], "both classes"),
        ([quarters("a"), quarters("a")], "each left-out collection once"),
        ([], "no collection"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(parts, message):
    with pytest.raises(DataError, match=message):
        fit_calibration(parts)


def test_two_heads_are_refused():
    other = LeftOutPredictions("b", "xray", np.zeros(2), np.array([0, 1]), np.array(["", ""]))
    with pytest.raises(DataError, match="one head"):
        tabulate_left_out([quarters("a"), other])


# --- abstain zone


def test_no_zone_where_few_are_wrong():
    assert choose_abstain_zone([0.1] * 9 + [0.6], [0] * 10) == (0.5, 0.5)


def test_the_narrowest_zone_by_hand():
    # ten images, two wrong, at 0.45 and 0.52: the zone must hold both, and no more
    scores = [0.05, 0.1, 0.15, 0.2, 0.45, 0.52, 0.8, 0.85, 0.9, 0.95]
    labels = [0, 0, 0, 0, 1, 0, 1, 1, 1, 1]
    zone = choose_abstain_zone(scores, labels, target_error=0.0)
    assert zone == (0.45, 0.52)
    figures = measure_zone(scores, labels, zone)
    assert (figures.coverage, figures.error_outside, figures.error_inside) == (pytest.approx(0.8), 0.0, 1.0)
    # 1 wrong of 9 is 11 %: holding the nearer one alone is enough for 12 %
    assert choose_abstain_zone(scores, labels, target_error=0.12) == (0.5, 0.52)


def test_coverage_comes_before_the_target():
    scores = [0.2, 0.4, 0.6, 0.8]
    labels = [0, 1, 0, 1]
    assert choose_abstain_zone(scores, labels, target_error=0.0, min_coverage=0.5) == (0.4, 0.6)
    # one image may be left out: the error falls from 2 of 4 to 1 of 3, by either side; the lower zone wins
    assert choose_abstain_zone(scores, labels, target_error=0.0, min_coverage=0.7) == (0.4, 0.5)
    assert choose_abstain_zone(scores, labels, target_error=0.0, min_coverage=1.0) == (0.5, 0.5)


def test_weights_count_in_the_zone():
    scores, labels = [0.1, 0.45, 0.9], [0, 1, 1]
    assert choose_abstain_zone(scores, labels, [10.0, 0.1, 10.0]) == (0.5, 0.5)
    assert choose_abstain_zone(scores, labels, [1.0, 0.5, 1.0]) == (0.45, 0.5)
    with pytest.raises(DataError, match="weight"):
        choose_abstain_zone(scores, labels, [0.0, 0.0, 0.0])


def test_a_zone_never_leaves_the_unit_interval():
    low, high = choose_abstain_zone([0.0, 0.02, 0.5, 1.0], [1, 1, 1, 1], threshold=0.03, min_coverage=0.25)
    assert (low, high) == (0.0, 0.03)
    with pytest.raises(UsageError, match="threshold"):
        choose_abstain_zone([0.1], [0], threshold=1.5)


# --- supported probability


def sure(right: int, wrong: int, confidence: float = 0.995) -> tuple[list[float], list[int]]:
    """Confident answers, positive and normal in turn, the first `right` of them right."""
    scores = [confidence if number % 2 else 1 - confidence for number in range(right + wrong)]
    return scores, [number % 2 if number < right else 1 - number % 2 for number in range(right + wrong)]


@pytest.mark.parametrize(
    ("right", "wrong", "level"),
    [
        (93, 0, 0.99),  # Wilson from 93 / (93 + 1.96 squared) = 0.9603
        (92, 0, 0.98),  # from 0.9599: 0.99 asks for 0.96
        (49, 0, 0.7),  # too few
        (60, 0, 0.95),  # Wilson from 0.9398: 0.97 asks for 0.94
        (60, 6, 0.8),
        (10, 60, 0.7),
    ],
)
def test_supported_probability_follows_wilson(right, wrong, level):
    scores, labels = sure(right, wrong)
    names = ["a"] * (right + wrong)
    bound = wilson_interval(right, right + wrong)[0]
    result = supported_probability(scores, labels, names)
    assert result == level
    if result > 0.7:
        assert bound >= result - 0.03


def test_one_collection_that_errs_lowers_it_for_all():
    scores, labels = sure(300, 0)
    other_scores, other_labels = sure(18, 2)
    names = ["a"] * 300 + ["b"] * 20
    assert supported_probability(scores + other_scores, labels + other_labels, names) == 0.95
    # 19 are too few to count by themselves
    few = supported_probability((scores + other_scores)[:-1], (labels + other_labels)[:-1], names[:-1])
    assert few == 0.99


def test_one_class_collections_do_not_count():
    scores, labels = sure(60, 0)
    assert supported_probability([0.001] * 60, [0] * 60, ["normals"] * 60) == 0.7
    both = supported_probability(scores + [0.999] * 60, labels + [0] * 60, ["a"] * 60 + ["normals"] * 60)
    assert both == supported_probability(scores, labels, ["a"] * 60)


# --- the table


def test_a_row_by_hand():
    # b bears out the network's own odds, log 3 either way, so these are a's calibration: log odds of 2 log 3 and -log 3
    sure = LOG3 * OWN_TEMPERATURE
    part = predict("a", [2 * sure, 2 * sure, -sure, -sure, 2 * sure], [1, 1, 1, 0, 0])
    table = tabulate_left_out([part, quarters("b", high=sure, low=-sure)], resamples=20)
    row = table.rows[0]
    assert (row.calibration.collections, row.is_own_calibration) == (("b",), False)
    assert (row.sensitivity.successes, row.sensitivity.total) == (2, 3)
    assert (row.specificity.successes, row.specificity.total) == (1, 2)
    assert (row.false_alarms.successes, row.false_alarms.total) == (1, 2)
    assert row.brier == pytest.approx((2 * 0.01 + 0.75**2 + 0.25**2 + 0.81) / 5, abs=1e-4)
    # confidence 0.9 right in 2 of 3, confidence 0.75 right in 1 of 2
    assert row.ece == pytest.approx((3 * (0.9 - 2 / 3) + 2 * 0.25) / 5, abs=1e-4)
    # 0.9 positive in 2 of 3, 0.25 positive in 1 of 2
    assert row.positive_ece == pytest.approx((3 * (0.9 - 2 / 3) + 2 * 0.25) / 5, abs=1e-4)
    assert row.prevalence == 0.6
    assert row.auc.value == pytest.approx((2 * 1 + 2 * 0.5 + 0.5) / 6)
    assert row.over_99.successes == 0
    assert (row.over_supported.successes, row.right_over_supported.successes) == (5, 3)


def test_the_table_as_a_whole(table):
    a, b, normals = table.rows
    assert table.auc.value == pytest.approx((a.auc.value + b.auc.value) / 2)
    assert table.auc.low < table.auc.value < table.auc.high
    assert table.worst.auc.value == min(a.auc.value, b.auc.value)
    assert (normals.auc, normals.ece, normals.sensitivity, normals.reliability) == (None, None, None, None)
    assert (normals.false_alarms.successes, normals.over_99.successes) == (2, 2)
    assert normals.calibration == table.calibration  # no two-class collection is left out of it
    assert table.zone[0] <= table.threshold == 0.5 <= table.zone[1]
    assert a.patients == 40
    assert sum(part.images for part in a.reliability) == 120


def test_evidence_is_of_the_two_class_rows(table):
    a, b, _ = table.rows
    evidence = table.evidence()
    assert list(evidence) == [
        *("auc", "auc_low", "auc_high", "sensitivity", "specificity", "collections", "images", "ece")
    ]
    assert (evidence["collections"], evidence["images"]) == (["a", "b"], 240)
    assert evidence["specificity"] == pytest.approx((a.specificity.value + b.specificity.value) / 2)
    assert evidence["ece"] == pytest.approx((a.ece + b.ece) / 2)


def test_youdens_threshold_comes_from_the_others():
    parts = [make_collection("a", -2.0, 1), make_collection("b", -1.0, 2)]
    table = tabulate_left_out(parts, threshold_rule="youden", resamples=20)
    fit = fit_calibration([parts[1]])
    expected = choose_threshold(fit.probabilities(parts[1].margins), parts[1].labels)
    assert table.rows[0].threshold == pytest.approx(expected)
    with pytest.raises(UsageError, match="half or youden"):
        tabulate_left_out(parts, threshold_rule="best")


def test_a_row_does_not_depend_on_its_own_labels():
    parts = [make_collection("a", -2.0, 1), make_collection("b", -1.0, 2), make_collection("c", 0.0, 3)]
    turned = predict("a", parts[0].margins, 1 - parts[0].labels, parts[0].patients)
    for rule in ("half", "youden"):
        first = tabulate_left_out(parts, threshold_rule=rule, resamples=5).rows[0]
        second = tabulate_left_out([turned, *parts[1:]], threshold_rule=rule, resamples=5).rows[0]
        assert (first.calibration, first.threshold, first.zone) == (
            *(second.calibration, second.threshold, second.zone),
        )


def test_a_lone_collection_says_that_it_is_calibrated_on_itself():
    table = tabulate_left_out([quarters("a", times=3)], resamples=5)
    assert table.rows[0].is_own_calibration
    assert "a (calibrated on itself)" in left_out_table([table])
    assert "flatters" in render_left_out({"heads": [table.to_dict()]})


def test_the_table_survives_json(table):
    assert LeftOutTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_reliability_by_hand():
    first, second = measure_reliability([0.02, 0.08, 0.95, 1.0], [0, 1, 1, 1])
    assert (first.probability, first.positive, first.images) == (pytest.approx(0.05), 0.5, 2)
    assert (second.probability, second.positive, second.images) == (pytest.approx(0.975), 1.0, 2)


def test_a_shift_hides_from_the_folded_error_alone():
    # 0.8 positive always, 0.2 positive in 4 of 10: too modest on one side, too sure on the other
    scores, labels = [0.8] * 10 + [0.2] * 10, [1] * 14 + [0] * 6
    assert expected_calibration_error(scores, labels) == pytest.approx(0.0, abs=1e-9)
    assert positive_calibration_error(scores, labels) == pytest.approx(0.2)


# --- tables, figures, the page


def test_markdown_tables_show_the_figures(table):
    text = left_out_table([table])
    assert len(text.splitlines()) == 2 + 3 + 1
    assert f"{table.auc.value:.4f} ({table.auc.low:.4f} to {table.auc.high:.4f})" in text
    assert f"worst: {table.worst.collection}" in text
    assert "2/10 = 20.00 %" in confidence_table([table])
    assert f"{table.calibration.temperature:.3f}" in serving_table([table])


def test_figures_show_every_two_class_collection(table):
    (axes,) = draw_left_out_aucs([table]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "mean of 2"]
    assert [text.get_text()[:5] for text in axes.texts][-1] == f"{table.auc.value:.3f}"
    panels = draw_reliability(table).axes
    assert [axes.get_title().split("\n")[0] for axes in panels] == ["a", "b"]
    assert list(panels[0].lines[1].get_ydata()) == [part.positive for part in table.rows[0].reliability]


def test_the_page_has_a_section_for_what_was_measured(table):
    text = render_left_out({"heads": [table.to_dict()], "command": "evaluate", "notes": ["a note"]})
    assert "`evaluate`" in text
    assert "- a note" in text
    assert "Shortcuts" not in text
    heat = summarise_heat(
        [HeatMeasure(True, 0.2, 0.5, None, None)], method="layer-cam", layer="fine", collection="a"
    )
    fusion = compare_fusion(
        draw_pairs({"ct": [0, 1], "xray": [0, 1]}, per_kind=1),
        fused_logits=np.zeros(4),
        branch_logits={"ct": [-1, 1], "xray": [-1, 1]},
    )
    whole = json.dumps(
        {
            "heads": [table.to_dict()],
            "shortcuts": [ShortcutRow("blank_lungs", "a", 0.52, 0.4, 0.6, 9).to_dict()],
            "sources": [SourceRow("bottleneck", ("a", "b"), 0.7, 0.5, 0.8, 9).to_dict()],
            "heatmaps": [heat.to_dict()],
            "fusion": fusion.to_dict(),
            "figures": {"AUC": "left-out-auc.png"},
        }
    )
    text = render_left_out(json.loads(whole))
    for part in ("Lungs blanked out", "bottleneck", "layer-cam", "fused head", "![AUC](left-out-auc.png)"):
        assert part in text
