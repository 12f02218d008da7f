"""One network's result on one set of images, with the counts and intervals behind each number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from covid_mm.config import CLASSES
from covid_mm.evaluation.calibration import brier_score, expected_calibration_error
from covid_mm.evaluation.intervals import CONFIDENCE, Estimate, Proportion, estimate_auc
from covid_mm.evaluation.metrics import DEFAULT_THRESHOLD, ConfusionMatrix, count_confusion
from covid_mm.json_record import WITH_DERIVED, JsonRecord


@dataclass(frozen=True)
class BinaryReport(JsonRecord):
    """What `evaluate_binary` found. Values are 0..1.

    threshold: probability from which an image is called positive.
    sensitivity, specificity: None where the class has no image. auc: None where one has none.
    auc and brier see the probabilities, the rest of the rates only which side of the threshold.
    calibration_error: see `expected_calibration_error`.
    """

    __pydantic_config__ = WITH_DERIVED

    threshold: float
    counts: ConfusionMatrix
    accuracy: Proportion
    sensitivity: Proportion | None
    specificity: Proportion | None
    auc: Estimate | None
    brier: float
    calibration_error: float

    @property
    def images(self) -> dict[str, int]:
        """Images (or pairs) a class, by class name."""
        return dict(zip(CLASSES, (self.counts.negative, self.counts.positive), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what could not be measured is null."""
        return super().to_dict() | {"images": self.images}


def evaluate_binary(
    probabilities: ArrayLike,
    labels: ArrayLike,
    threshold: float = DEFAULT_THRESHOLD,
    *,
    confidence: float = CONFIDENCE,
) -> BinaryReport:
    """Measure the probabilities of the positive class against the labels.

    Args:
        probabilities: (n,) probability of covid19_pneumonia, 0..1.
        labels: (n,) 0 or 1.
        threshold: an image from this probability on is called positive, 0..1.
        confidence: of the intervals; Wilson's for shares, Newcombe's for the AUC.

    Raises:
        DataError: NaN, values outside 0..1, other labels than 0 and 1, no image, other shapes.
        UsageError: an impossible confidence.
    """
    counts = count_confusion(probabilities, labels, threshold)

    def share(successes: int, total: int) -> Proportion | None:
        return Proportion.of(successes, total, confidence) if total else None

    has_both = counts.positive > 0 and counts.negative > 0
    return BinaryReport(
        threshold=float(threshold),
        counts=counts,
        accuracy=Proportion.of(counts.correct, counts.total, confidence),
        sensitivity=share(counts.true_positive, counts.positive),
        specificity=share(counts.true_negative, counts.negative),
        auc=estimate_auc(probabilities, labels, confidence) if has_both else None,
        brier=brier_score(probabilities, labels),
        calibration_error=expected_calibration_error(probabilities, labels),
    )
