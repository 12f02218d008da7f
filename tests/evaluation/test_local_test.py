"""A hospital's own test: the same figures as by hand, and intervals that respect patients."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime

import numpy as np
import pytest

from covid_mm.config import CLASSES
from covid_mm.errors import DataError
from covid_mm.evaluation.calibration import expected_calibration_error
from covid_mm.evaluation.intervals import auc_interval, wilson_interval
from covid_mm.evaluation.local_test import HeadTest, LabelledStudy, LocalTest, measure_local_test
from covid_mm.evaluation.metrics import roc_auc
from covid_mm.reporting.local_test import describe_json

META = {
    "decision_threshold": {"fused": 0.5, "ct": 0.4, "xray": 0.5},
    "abstain_zone": {"fused": [0.45, 0.6], "ct": [0.4, 0.4], "xray": [0.3, 0.7]},
}
SCORES = [0.9, 0.8, 0.62, 0.35, 0.1, 0.2, 0.55, 0.05]
TRUTHS = [1, 1, 1, 1, 0, 0, 0, 0]


def measure(studies: list[LabelledStudy], resamples: int = 200) -> LocalTest:
    when = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    return measure_local_test(studies, META, checkpoint="c", sha256="f" * 64, date=when, resamples=resamples)


def films(repeat: int = 1) -> list[LabelledStudy]:
    """Each score as a film, of `repeat` films a patient."""
    return [
        LabelledStudy(CLASSES[truth], f"p{number}" if repeat > 1 else "", {"xray": score})
        for number, (score, truth) in enumerate(zip(SCORES, TRUTHS, strict=True))
        for _ in range(repeat)
    ]


def find(test: LocalTest, head: str) -> HeadTest:
    one = test.find(head)
    assert one is not None
    return one


def test_figures_are_those_by_hand():
    test = measure(films())
    (one,) = test.heads
    assert (one.head, one.normal, one.positive, one.patients, one.studies) == ("xray", 4, 4, 8, 8)
    assert (one.sensitivity.successes, one.sensitivity.total) == (3, 4)
    assert (one.sensitivity.low, one.sensitivity.high) == wilson_interval(3, 4)
    assert (one.specificity.successes, one.specificity.total) == (3, 4)
    assert (one.abstained.successes, one.abstained.total) == (3, 8)
    assert (one.sure_sensitivity.successes, one.sure_sensitivity.total) == (2, 2)
    assert (one.sure_specificity.successes, one.sure_specificity.total) == (3, 3)
    area = roc_auc(SCORES, TRUTHS)
    assert one.auc.value == pytest.approx(area)
    assert (one.auc.low, one.auc.high) == pytest.approx(auc_interval(area, 4, 4))
    assert one.ece.value == pytest.approx(expected_calibration_error(SCORES, TRUTHS))
    assert one.ece.low <= one.ece.value <= one.ece.high


def test_many_studies_of_a_patient_do_not_make_an_interval_narrow():
    grouped = find(measure(films(3), 1000), "xray")
    alone = [dataclasses.replace(study, patient="") for study in films(3)]
    independent = find(measure(alone, 1000), "xray")
    assert (grouped.patients, independent.patients) == (8, 24)
    for name in ("sensitivity", "specificity", "auc", "ece"):
        by_patient, by_study = getattr(grouped, name), getattr(independent, name)
        assert by_patient.value == by_study.value
        assert by_patient.high - by_patient.low > by_study.high - by_study.low, name


def test_an_interval_never_shrinks_to_a_point():
    studies = [
        LabelledStudy("normal", f"p{patient}", {"xray": score})
        for patient in range(6)
        for score in (0.1, 0.5)
    ]
    one = find(measure(studies), "xray")
    assert (one.abstained.value, one.patients) == (0.5, 6)
    assert (one.abstained.low, one.abstained.high) == wilson_interval(3, 6)


def test_the_bootstrap_of_the_calibration_error_is_that_of_the_studies():
    studies = films(2)
    one = find(measure(studies, 500), "xray")
    scores = np.array([study.probabilities["xray"] for study in studies])
    truth = np.array([study.truth == CLASSES[1] for study in studies]).astype(int)
    generator = np.random.default_rng(0)
    values = []
    for start in range(0, 500, 100):
        for row in generator.integers(0, 8, (min(100, 500 - start), 8)):
            index = np.concatenate([[2 * number, 2 * number + 1] for number in row])
            values.append(expected_calibration_error(scores[index], truth[index]))
    assert (one.ece.low, one.ece.high) == pytest.approx(np.quantile(values, (0.025, 0.975)))


def test_each_head_is_measured_where_it_answered():
    studies = [
        LabelledStudy("normal", "a", {"fused": 0.2, "ct": 0.3, "xray": 0.2}),
        LabelledStudy(
            "covid19_pneumonia", "b", {"fused": 0.7, "ct": 0.45, "xray": 0.9}, frozenset({"fused"})
        ),
        LabelledStudy("covid19_pneumonia", "c", {"ct": 0.41}),
        LabelledStudy("normal", "d", {}),
        LabelledStudy("normal", "e", {}, failed=True),
    ]
    test = measure(studies)
    assert [(one.head, one.studies) for one in test.heads] == [("fused", 2), ("ct", 3), ("xray", 2)]
    assert (test.labelled, test.failed, test.unanswered) == (5, 1, 1)
    ct = find(test, "ct")
    assert (ct.threshold, ct.zone, ct.abstained.successes) == (0.4, None, 0)
    assert ct.sensitivity.successes == 2
    assert find(test, "fused").abstained.successes == 1  # CT and X-ray contradict each other


def test_one_class_alone_has_no_auc_and_no_study_at_all_is_refused():
    one = find(measure([LabelledStudy("normal", "", {"xray": score}) for score in (0.1, 0.9)]), "xray")
    assert one.auc is None
    assert one.sensitivity is one.sure_sensitivity is None
    assert one.specificity.successes == 1
    with pytest.raises(DataError, match="None of these studies has a label"):
        measure([])


def test_it_is_kept_as_json_and_read_again():
    test = measure(films(2))
    assert LocalTest.from_dict(json.loads(json.dumps(describe_json(test)))) == test
