"""What other decision thresholds would have meant: images called positive at each of a hundred."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.config import POSITIVE
from covid_mm.json_record import JsonRecord

THRESHOLDS = tuple(round(step / 100, 2) for step in range(1, 100))


@dataclass(frozen=True)
class OperatingPoints(JsonRecord):
    """One head on measured images.

    thresholds: ascending, 0..1. true_positive, false_positive: images called positive at each, of
    `positive` and `negative` images.
    """

    thresholds: tuple[float, ...]
    true_positive: tuple[int, ...]
    false_positive: tuple[int, ...]
    positive: int
    negative: int


def count_operating_points(probabilities: ArrayLike, labels: ArrayLike) -> OperatingPoints:
    """Images called positive at each of THRESHOLDS.

    Args:
        probabilities: (n,) of the positive class, calibrated. labels: (n,) 0 or 1.
    """
    scores: NDArray[np.float64] = np.asarray(probabilities, np.float64)
    truly = np.asarray(labels) == POSITIVE
    called = scores[None, :] >= np.array(THRESHOLDS)[:, None]
    return OperatingPoints(
        THRESHOLDS,
        tuple((called & truly).sum(axis=1).tolist()),
        tuple((called & ~truly).sum(axis=1).tolist()),
        int(truly.sum()),
        int((~truly).sum()),
    )
