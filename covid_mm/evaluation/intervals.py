"""How far a measured share, or an AUC, can be trusted: score intervals.

Score intervals keep a width at 750 right of 750, and at an AUC of 1, where the textbook ones
(Wald, Hanley-McNeil, DeLong, the bootstrap) shrink to a point and claim certainty.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

from numpy.typing import ArrayLike

from covid_mm.errors import DataError, UsageError
from covid_mm.evaluation.metrics import check_binary, roc_auc
from covid_mm.json_record import JsonRecord

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate(JsonRecord):
    """A measured value with its interval, all 0..1. confidence: of the interval, 0..1."""

    value: float
    low: float
    high: float
    confidence: float = CONFIDENCE


@dataclass(frozen=True, kw_only=True)
class Proportion(Estimate):
    """A share with the counts behind it: successes of total; its interval is Wilson's."""

    successes: int
    total: int

    @classmethod
    def of(cls, successes: int, total: int, confidence: float = CONFIDENCE) -> Proportion:
        """The share successes / total; errors as for `wilson_interval`."""
        low, high = wilson_interval(successes, total, confidence)
        return cls(
            value=successes / total,
            low=low,
            high=high,
            confidence=confidence,
            successes=successes,
            total=total,
        )


def difference_interval(first: Proportion, second: Proportion) -> tuple[float, float]:
    """The interval of `first` minus `second`, -1..1, of two independent samples (Newcombe's method 10).

    Where both were counted on the same images it is too wide, never too narrow, if their answers agree
    more often than by chance. Source: Newcombe, Statistics in Medicine 17 (1998), 873.
    """
    change = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return (change - below, change + above)


def wilson_interval(successes: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a share, 0..1.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference,
    Journal of the American Statistical Association 22 (1927) 209-212; no continuity correction.

    Args:
        successes, total: counts, 0 <= successes <= total, total at least 1.
        confidence: between 0 and 1, without the ends.

    Raises:
        DataError: impossible counts.
        UsageError: an impossible confidence.
    """
    if not 0 <= successes <= total or total < 1:
        raise DataError(
            f"A share needs 0 <= successes <= total and total >= 1, but {successes} of {total} was given."
        )
    from scipy.stats import binomtest  # not needed to serve a checkpoint

    _check_confidence(confidence)
    interval = binomtest(successes, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def estimate_auc(probabilities: ArrayLike, labels: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """The area under the ROC curve with its interval.

    Args:
        probabilities: (n,) probability of the positive class, 0..1.
        labels: (n,) 0 or 1, both present.
        confidence: between 0 and 1, without the ends.

    Raises:
        DataError: see `roc_auc`.
        UsageError: an impossible confidence.
    """
    area = roc_auc(probabilities, labels)
    _, truth = check_binary(probabilities, labels)
    positive = int(truth.sum())
    low, high = auc_interval(area, positive, truth.size - positive, confidence)
    return Estimate(value=area, low=low, high=high, confidence=confidence)


def auc_interval(
    area: float, positive: int, negative: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Newcombe's score interval of an AUC from `positive` and `negative` images, 0..1.

    The bounds are the areas from which the measured one is just `z` standard errors away, with
    the standard error taken at the bound, not at the measurement.
    Source: R. G. Newcombe, Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic, part 2, Statistics in Medicine 25 (2006) 559-573, method 5.

    Raises:
        DataError: an area outside 0..1 or a class without images.
        UsageError: an impossible confidence.
    """
    if not 0.0 <= area <= 1.0 or positive < 1 or negative < 1:
        raise DataError(
            "An AUC's interval needs an area within 0..1 and images of both classes, but the area is"
            f" {area:g} from {positive} positive and {negative} normal images."
        )
    _check_confidence(confidence)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)  # 1.96 for 0.95

    def excess(bound: float) -> float:
        """Distance from the measurement beyond z standard errors."""
        return abs(area - bound) - z * _auc_error(bound, positive, negative)

    low = 0.0 if area == 0.0 else _find_crossing(excess, outside=0.0, inside=area)
    high = 1.0 if area == 1.0 else _find_crossing(excess, outside=1.0, inside=area)
    return low, high


def _auc_error(area: float, positive: int, negative: int) -> float:
    """Standard error of an AUC (Hanley and McNeil 1982, with Newcombe's common mean count)."""
    mean_rest = (positive + negative) / 2 - 1
    spread = 1 + mean_rest * ((1 - area) / (2 - area) + area / (1 + area))
    return math.sqrt(area * (1 - area) * spread / (positive * negative))


def _find_crossing(excess: Callable[[float], float], *, outside: float, inside: float) -> float:
    """Where `excess` turns from not negative (outside) to negative (inside), by bisection.

    By hand: scipy's root finders take a 0 at the inner end, where the error is 0, for the crossing.
    """
    for _ in range(60):  # 2**-60 is below the spacing of floats near 1
        middle = (outside + inside) / 2
        if excess(middle) >= 0:
            outside = middle
        else:
            inside = middle
    return (outside + inside) / 2


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"A confidence must lie between 0 and 1, but is {confidence}; 0.95 is the custom.")
