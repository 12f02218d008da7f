"""What a reliability diagram is drawn from: the share of positives in each bin of probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from covid_mm.evaluation.metrics import check_binary
from covid_mm.json_record import JsonRecord

RELIABILITY_BINS = 10


@dataclass(frozen=True)
class ReliabilityBin(JsonRecord):
    """Images whose probability lies in one bin. probability: their mean; positive: share truly so."""

    probability: float
    positive: float
    images: int


def measure_reliability(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = RELIABILITY_BINS
) -> tuple[ReliabilityBin, ...]:
    """Equal bins of the positive class's probability, from 0 up; empty ones are left out.

    By hand: scikit-learn's calibration_curve does not say how many images a bin holds.

    Args and errors as for `brier_score`. bins: at least 1.
    """
    scores, truth = check_binary(probabilities, labels)
    index = np.minimum((scores * bins).astype(np.int64), bins - 1)
    return tuple(
        ReliabilityBin(
            probability=float(scores[index == number].mean()),
            positive=float(truth[index == number].mean()),
            images=int(np.sum(index == number)),
        )
        for number in np.unique(index)
    )


def positive_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Mean gap between the positive class's probability and the share of positives, 0..1.

    Equal bins over 0..1, weighted by their images. Unlike `expected_calibration_error`, which folds both
    sides of 0.5 together, it sees a shift that makes one side too sure and the other too modest.

    Args and errors as for `brier_score`. bins: at least 1.
    """
    parts = measure_reliability(probabilities, labels, bins)
    total = sum(part.images for part in parts)
    return sum(part.images * abs(part.probability - part.positive) for part in parts) / total
