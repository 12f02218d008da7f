"""Test it here first: what the network is worth on one hospital's own labelled studies, before anybody trusts it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASSES, MODALITIES, POSITIVE
from covid_mm.errors import DataError
from covid_mm.evaluation.abstention import is_inside
from covid_mm.evaluation.calibration import expected_calibration_error, find_calibration_gaps
from covid_mm.evaluation.intervals import Estimate, Proportion, wilson_interval
from covid_mm.evaluation.left_out_predictions import number_patients
from covid_mm.evaluation.metrics import count_confusion
from covid_mm.evaluation.patient_bootstrap import RESAMPLES, estimate_auc_by_patient, percentile_interval
from covid_mm.json_record import WITH_DERIVED, JsonRecord

FUSED = "fused"
_CHUNK = 100  # resamples at once
_POINT = 1e-9  # an interval narrower than that is a bootstrap that shrank to a point
HEADS = (FUSED, *MODALITIES)  # as meta.json names them
NO_LABEL = (
    "None of these studies has a label; give the manifest a column label with normal or covid19_pneumonia."
)


@dataclass(frozen=True)
class LabelledStudy:
    """One study of a hospital's own, with what the network said.

    truth: a class. patient: empty counts as a patient of its own. probabilities: head -> of covid19_pneumonia as
    shown, 0..1, the heads that gave one; `fused` only where both images were given. undetermined: heads that named no
    class for another reason than their zone, as where the images contradict each other. failed: it could not be read.
    """

    truth: str
    patient: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    undetermined: frozenset[str] = frozenset()
    failed: bool = False


@dataclass(frozen=True)
class HeadTest(JsonRecord):
    """One head on the studies to which it gave a probability; None where a class is missing.

    sensitivity, specificity: at the head's own threshold, undetermined studies called by their probability, as in the
    left-out figures. sure_sensitivity, sure_specificity: without the undetermined ones. ece: expected calibration
    error. abstained: undetermined, by the zone or as the images contradict each other. Intervals are of 95 %: Wilson's
    and Newcombe's where every patient has one study, else percentiles of a bootstrap over patients.
    """

    __pydantic_config__ = WITH_DERIVED

    head: str
    normal: int
    positive: int
    patients: int
    threshold: float
    zone: tuple[float, float] | None
    sensitivity: Proportion | None
    specificity: Proportion | None
    sure_sensitivity: Proportion | None
    sure_specificity: Proportion | None
    auc: Estimate | None
    ece: Estimate
    abstained: Proportion

    @property
    def studies(self) -> int:
        """How many were measured."""
        return self.normal + self.positive


@dataclass(frozen=True)
class LocalTest(JsonRecord):
    """A hospital's own test of one checkpoint.

    checkpoint, sha256: which one. date: when, ISO 8601, UTC. labelled: studies with a label; failed: of these, could
    not be read; unanswered: were read and got no probability. heads: those that answered any, the combined one first.
    left_out: head -> its figures on collections left out of training, as meta.json keeps them, to be compared with.
    """

    __pydantic_config__ = WITH_DERIVED

    checkpoint: str
    sha256: str
    date: str
    labelled: int
    failed: int
    unanswered: int
    heads: tuple[HeadTest, ...]
    left_out: dict[str, dict[str, Any]]

    def find(self, head: str) -> HeadTest | None:
        """One head's figures; None where it answered no study."""
        return next((one for one in self.heads if one.head == head), None)


def measure_local_test(
    studies: Iterable[LabelledStudy],
    meta: Mapping[str, Any],
    *,
    checkpoint: str,
    sha256: str,
    date: datetime,
    resamples: int = RESAMPLES,
) -> LocalTest:
    """Every head on a hospital's labelled studies.

    Args:
        studies: all that have a label.
        meta: the checkpoint's meta.json: `decision_threshold`, `abstain_zone` and `evidence` by head.
        checkpoint, sha256: its name, and of its weights.
        date: of the test, with its time zone.
        resamples: of the bootstrap over patients.

    Raises:
        DataError: no study has a label.
    """
    labelled = tuple(studies)
    if not labelled:
        raise DataError(NO_LABEL)
    heads = []
    for head in HEADS:
        answered = [study for study in labelled if head in study.probabilities]
        if answered:
            threshold = float(meta.get("decision_threshold", {}).get(head, 0.5))
            heads.append(_measure_head(head, answered, threshold, _read_zone(meta, head), resamples))
    failed = sum(study.failed for study in labelled)
    return LocalTest(
        checkpoint=checkpoint,
        sha256=sha256,
        date=date.isoformat(timespec="seconds"),
        labelled=len(labelled),
        failed=failed,
        unanswered=sum(not study.probabilities for study in labelled) - failed,
        heads=tuple(heads),
        left_out={head: dict(figures) for head, figures in meta.get("evidence", {}).items() if figures},
    )


def _measure_head(
    head: str,
    studies: Sequence[LabelledStudy],
    threshold: float,
    zone: tuple[float, float] | None,
    resamples: int,
) -> HeadTest:
    scores = np.array([study.probabilities[head] for study in studies], dtype=np.float64)
    truth = np.array([study.truth == CLASSES[POSITIVE] for study in studies])
    patients = number_patients([study.patient for study in studies], len(studies))
    inside = np.array([head in study.undetermined for study in studies])
    if zone:
        inside |= is_inside(scores, *zone)
    right = (scores >= threshold) == truth
    samples = _Samples(patients, resamples)
    counts = count_confusion(scores, truth.astype(int), threshold)
    both = counts.positive > 0 and counts.negative > 0
    return HeadTest(
        head=head,
        normal=counts.negative,
        positive=counts.positive,
        patients=samples.patients,
        threshold=threshold,
        zone=zone,
        sensitivity=samples.share(right, truth),
        specificity=samples.share(right, ~truth),
        sure_sensitivity=samples.share(right, truth & ~inside),
        sure_specificity=samples.share(right, ~truth & ~inside),
        auc=estimate_auc_by_patient(scores, truth.astype(int), patients.astype(str), resamples=resamples)
        if both
        else None,
        ece=samples.calibration_error(scores, truth.astype(int)),
        abstained=samples.share(inside, np.ones(scores.shape, dtype=bool)) or Proportion.of(0, 1),
    )


class _Samples:
    """Intervals of shares and estimates over patients who may have several studies."""

    def __init__(self, patients: NDArray[np.int64], resamples: int) -> None:
        self.patients = int(patients.max()) + 1
        self._numbers = patients
        self._resamples = resamples
        self._is_single = self.patients == patients.size

    def share(self, successes: NDArray[np.bool_], among: NDArray[np.bool_]) -> Proportion | None:
        """The share of successes among some studies; None where there are none."""
        hits, total = int(np.sum(successes & among)), int(among.sum())
        if total == 0:
            return None
        plain = Proportion.of(hits, total)
        if self._is_single:
            return plain
        patients = np.unique(self._numbers[among]).size
        if hits in (0, total):  # the bootstrap shrinks to a point
            low, high = wilson_interval(patients if hits else 0, patients)
        else:
            by_patient = [
                np.bincount(self._numbers, weights=which, minlength=self.patients)
                for which in (successes & among, among)
            ]
            drawn = ([counts[rows].sum(axis=1) for counts in by_patient] for rows in self._draw())
            top, bottom = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
            rates = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
            low, high = percentile_interval(rates)
            if high - low < _POINT:  # every patient has the same share
                low, high = wilson_interval(round(hits / total * patients), patients)
        value = hits / total
        return Proportion(
            value=value, low=min(low, value), high=max(high, value), successes=hits, total=total
        )

    def calibration_error(self, scores: NDArray[np.float64], truth: NDArray[np.int64]) -> Estimate:
        """`expected_calibration_error` with percentiles over patients drawn with replacement."""
        value = expected_calibration_error(scores, truth)
        bins, excess = find_calibration_gaps(scores, truth)
        gaps = np.zeros((self.patients, int(bins.max()) + 1))
        np.add.at(gaps, (self._numbers, bins), excess)
        sizes = np.bincount(self._numbers, minlength=self.patients)
        values = np.concatenate(
            [np.abs(gaps[rows].sum(axis=1)).sum(axis=1) / sizes[rows].sum(axis=1) for rows in self._draw()]
        )
        low, high = percentile_interval(values)
        return Estimate(value=value, low=min(low, value), high=max(high, value))

    def _draw(self) -> Iterator[NDArray[np.int64]]:
        """Patients' numbers, (resamples in parts, patients), the same at each call."""
        generator = np.random.default_rng(0)
        for start in range(0, self._resamples, _CHUNK):
            rows = min(_CHUNK, self._resamples - start)
            yield generator.integers(0, self.patients, (rows, self.patients))


def _read_zone(meta: Mapping[str, Any], head: str) -> tuple[float, float] | None:
    zone = meta.get("abstain_zone", {}).get(head)
    if not zone or not zone[0] < zone[1]:
        return None
    return float(zone[0]), float(zone[1])
