"""The left-out table: each collection scored by a network, and a calibration, that never saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from covid_mm.errors import UsageError
from covid_mm.evaluation.abstention import (
    MIN_COVERAGE,
    TARGET_ERROR,
    ZoneFigures,
    choose_abstain_zone,
    is_inside,
    measure_zone,
    supported_probability,
)
from covid_mm.evaluation.calibration import brier_score, choose_threshold, expected_calibration_error
from covid_mm.evaluation.intervals import Estimate, Proportion
from covid_mm.evaluation.left_out_predictions import (
    LeftOutPredictions,
    balanced_weights,
    choose_two_class,
    find_others,
)
from covid_mm.evaluation.metrics import DEFAULT_THRESHOLD, count_confusion
from covid_mm.evaluation.operating_points import OperatingPoints, count_operating_points
from covid_mm.evaluation.patient_bootstrap import (
    RESAMPLES,
    bootstrap_aucs,
    estimate_auc_by_patient,
    percentile_interval,
)
from covid_mm.evaluation.platt import OWN_WEIGHT, Calibration, fit_calibration, leave_one_calibration
from covid_mm.evaluation.reliability import (
    ReliabilityBin,
    measure_reliability,
    positive_calibration_error,
)
from covid_mm.json_record import WITH_DERIVED, JsonRecord

ThresholdRule = Literal["half", "youden"]
VERY_SURE = 0.99


@dataclass(frozen=True)
class CollectionRow(JsonRecord):
    """One left-out collection; calibration, threshold and zone come from the others.

    patients: an image without a patient's name counts as one. prevalence: share of positive images.
    auc: None for one class. sensitivity, specificity: None where the class is missing; of a
    collection of normals, 1 - specificity are its false alarms. brier, ece: at the collection's own
    prevalence; ece of the likelier class, positive_ece of the positive one, which also sees a shift;
    both None for one class. over_99: normal images called positive with more than 99 %.
    over_supported: images of at least the supported probability, on either side; right_over_supported:
    of these, answered rightly. coverage: images outside the zone. error_outside, error_inside: of
    those answered wrongly, both classes weighted alike. is_own_calibration: no other two-class collection was
    there, so the row was calibrated on itself and flatters. reliability: None for one class.
    """

    __pydantic_config__ = WITH_DERIVED

    collection: str
    head: str
    normal: int
    positive: int
    patients: int
    auc: Estimate | None
    sensitivity: Proportion | None
    specificity: Proportion | None
    brier: float
    ece: float | None
    positive_ece: float | None
    over_99: Proportion | None
    over_supported: Proportion
    right_over_supported: Proportion | None
    calibration: Calibration
    threshold: float
    zone: tuple[float, float]
    coverage: Proportion
    error_outside: float | None
    error_inside: float | None
    reliability: tuple[ReliabilityBin, ...] | None

    @property
    def images(self) -> int:
        """All images."""
        return self.normal + self.positive

    @property
    def prevalence(self) -> float:
        """Share of positive images, 0..1."""
        return self.positive / self.images

    @property
    def is_two_class(self) -> bool:
        """Whether both classes are present."""
        return self.normal > 0 and self.positive > 0

    @property
    def is_own_calibration(self) -> bool:
        """Whether the row was calibrated, and its threshold chosen, on itself."""
        return self.collection in self.calibration.collections

    @property
    def false_alarms(self) -> Proportion | None:
        """Normal images called positive; None without normal images."""
        if self.specificity is None:
            return None
        right = self.specificity
        return Proportion.of(right.total - right.successes, right.total, right.confidence)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; derived figures are written for readers, not read back."""
        return super().to_dict() | {
            "images": self.images,
            "prevalence": self.prevalence,
            "is_own_calibration": self.is_own_calibration,
        }


@dataclass(frozen=True)
class LeftOutTable(JsonRecord):
    """All left-out collections of one head, and what serving takes from them.

    auc: mean over the two-class rows, each counting the same, with its interval by patient.
    calibration: fitted on all two-class collections. threshold, zone, supported_probability: chosen on
    all two-class collections, each calibrated on the others, as a new hospital would be. pooled: the
    zone's figures over them, collections and classes weighted alike. operating_points: what other thresholds
    would have meant on them. threshold_rule: `half` or `youden`.
    """

    __pydantic_config__ = WITH_DERIVED

    head: str
    rows: tuple[CollectionRow, ...]
    auc: Estimate
    calibration: Calibration
    threshold_rule: ThresholdRule
    threshold: float
    zone: tuple[float, float]
    pooled: ZoneFigures
    supported_probability: float
    operating_points: OperatingPoints | None = None  # None on pages written before they were kept

    @property
    def two_class_rows(self) -> tuple[CollectionRow, ...]:
        """Rows with an AUC."""
        return tuple(row for row in self.rows if row.is_two_class)

    @property
    def worst(self) -> CollectionRow:
        """The two-class row of the least AUC, the first of equals."""
        return min(self.two_class_rows, key=lambda row: row.auc.value if row.auc else 1.0)

    def evidence(self) -> dict[str, Any]:
        """What serving shows beside an answer: means over the two-class collections, each counting the same.

        `auc`, `auc_low`, `auc_high`, `sensitivity`, `specificity`, `collections`, `images`, `ece`.
        """
        rows = self.two_class_rows
        return {
            "auc": self.auc.value,
            "auc_low": self.auc.low,
            "auc_high": self.auc.high,
            "sensitivity": _mean([row.sensitivity.value for row in rows if row.sensitivity]),
            "specificity": _mean([row.specificity.value for row in rows if row.specificity]),
            "collections": [row.collection for row in rows],
            "images": sum(row.images for row in rows),
            "ece": _mean([row.ece for row in rows if row.ece is not None]),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, `evidence` and the worst row's name among them for readers."""
        worst = self.worst
        return super().to_dict() | {
            "worst": {"collection": worst.collection, "auc": worst.auc.value if worst.auc else None},
            "evidence": self.evidence(),
        }


def tabulate_left_out(
    predictions: Sequence[LeftOutPredictions],
    *,
    threshold_rule: ThresholdRule = "half",
    own_weight: float = OWN_WEIGHT,
    calibration: Calibration | None = None,
    target_error: float = TARGET_ERROR,
    min_coverage: float = MIN_COVERAGE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> LeftOutTable:
    """The table of one head's left-out predictions.

    Args:
        predictions: one a collection, names unique, at least one with both classes.
        threshold_rule: 0.5, or Youden's index on the other collections.
        own_weight: see `fit_calibration`. calibration: of every collection, instead of one fitted.
        target_error, min_coverage: see `choose_abstain_zone`.
        resamples, seed: of the bootstrap over patients.

    Raises:
        DataError: see `choose_two_class`.
        UsageError: another threshold rule; see `choose_abstain_zone`.
    """
    if threshold_rule not in ("half", "youden"):
        raise UsageError(f"Expected the threshold rule half or youden, but got {threshold_rule}.")
    chosen = choose_two_class(predictions)
    if calibration is None:
        fits = leave_one_calibration(predictions, own_weight=own_weight)
        calibration = fit_calibration(chosen, own_weight=own_weight)
    else:
        fits = dict.fromkeys([part.collection for part in predictions], calibration)

    def decide(pool: _Pool) -> tuple[float, tuple[float, float]]:
        threshold = DEFAULT_THRESHOLD
        if threshold_rule == "youden":
            threshold = choose_threshold(pool.probabilities, pool.labels)
        zone = choose_abstain_zone(
            pool.probabilities,
            pool.labels,
            pool.weights,
            threshold=threshold,
            target_error=target_error,
            min_coverage=min_coverage,
        )
        return threshold, zone

    everything = _pool(chosen, fits)
    supported = supported_probability(everything.probabilities, everything.labels, everything.collections)
    threshold, zone = decide(everything)
    rows = []
    for part in predictions:
        others = find_others(part, chosen)
        # the others calibrated without the row, or its images would reach its threshold by that way
        pool = _pool(others, dict.fromkeys([o.collection for o in others], fits[part.collection]))
        own_threshold, own_zone = decide(pool)
        rows.append(
            _make_row(part, fits[part.collection], own_threshold, own_zone, supported, resamples, seed)
        )
    return LeftOutTable(
        head=predictions[0].head,
        rows=tuple(rows),
        auc=_mean_auc(chosen, [row.auc for row in rows if row.auc is not None], resamples, seed),
        calibration=calibration,
        threshold_rule=threshold_rule,
        threshold=threshold,
        zone=zone,
        pooled=measure_zone(
            everything.probabilities, everything.labels, zone, everything.weights, threshold=threshold
        ),
        supported_probability=supported,
        operating_points=count_operating_points(everything.probabilities, everything.labels),
    )


@dataclass(frozen=True, eq=False)
class _Pool:
    """Several collections' calibrated probabilities in one array each, with balanced weights."""

    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    collections: NDArray[np.str_]
    weights: NDArray[np.float64]


def _pool(parts: Sequence[LeftOutPredictions], fits: dict[str, Calibration]) -> _Pool:
    labels = np.concatenate([part.labels for part in parts])
    collections = np.concatenate([np.full(part.images, part.collection) for part in parts])
    probabilities = np.concatenate([fits[part.collection].probabilities(part.margins) for part in parts])
    return _Pool(probabilities, labels, collections, balanced_weights(labels, collections))


def _make_row(
    part: LeftOutPredictions,
    calibration: Calibration,
    threshold: float,
    zone: tuple[float, float],
    supported: float,
    resamples: int,
    seed: int,
) -> CollectionRow:
    probabilities = calibration.probabilities(part.margins)
    truth = part.labels == 1
    counts = count_confusion(probabilities, part.labels, threshold)
    auc, ece, positive_ece, reliability = None, None, None, None
    if part.is_two_class:
        auc = estimate_auc_by_patient(
            part.margins, part.labels, part.patients, resamples=resamples, seed=seed
        )
        ece = expected_calibration_error(probabilities, part.labels)
        positive_ece = positive_calibration_error(probabilities, part.labels)
        reliability = measure_reliability(probabilities, part.labels)
    sure = np.maximum(probabilities, 1.0 - probabilities) >= supported
    right = ((probabilities >= 0.5) == truth)[sure]
    weights = balanced_weights(part.labels, np.full(part.images, part.collection))
    figures = measure_zone(probabilities, part.labels, zone, weights, threshold=threshold)
    return CollectionRow(
        collection=part.collection,
        head=part.head,
        normal=part.normal,
        positive=part.positive,
        patients=part.patient_count,
        auc=auc,
        sensitivity=_share(counts.true_positive, part.positive),
        specificity=_share(counts.true_negative, part.normal),
        brier=brier_score(probabilities, part.labels),
        ece=ece,
        positive_ece=positive_ece,
        over_99=_share(int(np.sum(probabilities[~truth] > VERY_SURE)), part.normal),
        over_supported=Proportion.of(int(sure.sum()), part.images),
        right_over_supported=_share(int(right.sum()), right.size),
        calibration=calibration,
        threshold=threshold,
        zone=zone,
        coverage=Proportion.of(int(np.sum(~is_inside(probabilities, *zone))), part.images),
        error_outside=figures.error_outside,
        error_inside=figures.error_inside,
        reliability=reliability,
    )


def _mean_auc(
    parts: Sequence[LeftOutPredictions], rows: Sequence[Estimate], resamples: int, seed: int
) -> Estimate:
    """Mean of the rows, its interval from resamples of every collection's patients.

    Where the bootstrap shrinks to a point (every row at 0 or 1): the means of the rows' own ends.
    """
    value = _mean([row.value for row in rows])
    areas = [
        bootstrap_aucs(part.margins, part.labels, part.patients, resamples=resamples, seed=seed + number)
        for number, part in enumerate(parts)
    ]
    low, high = percentile_interval(np.mean(areas, axis=0))
    if high - low < 1e-12:
        low, high = _mean([row.low for row in rows]), _mean([row.high for row in rows])
    return Estimate(value=value, low=min(low, value), high=max(high, value))


def _share(successes: int, total: int) -> Proportion | None:
    return Proportion.of(successes, total) if total else None


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
