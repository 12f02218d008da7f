"""When not to answer, and how sure an answer may sound: chosen on left-out predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.errors import DataError, UsageError
from covid_mm.evaluation.intervals import wilson_interval
from covid_mm.evaluation.metrics import DEFAULT_THRESHOLD, check_binary
from covid_mm.json_record import JsonRecord

GRID = 0.01  # steps of the zone's ends
TARGET_ERROR = 0.10
MIN_COVERAGE = 0.70
CONFIDENCE_LEVELS = (0.99, 0.98, 0.97, 0.95, 0.93, 0.9, 0.85, 0.8, 0.75, 0.7)
MIN_POOL_IMAGES = 50
MIN_COLLECTION_IMAGES = 20
POOL_SLACK = 0.03
COLLECTION_SLACK = 0.05


@dataclass(frozen=True)
class ZoneFigures(JsonRecord):
    """A zone's cost and worth. coverage: weighted share of images outside it, 0..1.

    error_outside, error_inside: weighted share answered wrongly; None where no image lies there.
    """

    coverage: float
    error_outside: float | None
    error_inside: float | None


def is_inside(probabilities: ArrayLike, low: float, high: float) -> NDArray[np.bool_]:
    """Which probabilities lie in the zone: low <= p <= high; none where low == high."""
    values = np.asarray(probabilities, dtype=np.float64)
    return (values >= low) & (values <= high) & (low < high)


def choose_abstain_zone(
    probabilities: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    target_error: float = TARGET_ERROR,
    min_coverage: float = MIN_COVERAGE,
) -> tuple[float, float]:
    """The narrowest zone (low, high) round the threshold outside which at most `target_error` are wrong.

    Every zone threshold - i/100 .. threshold + j/100 within 0..1 is tried, of those that leave at
    least `min_coverage` of the (weighted) images outside. The narrowest that reaches the target wins;
    among equally wide ones that of fewest errors, then of most coverage, then the lowest. Where none
    reaches it: the one of fewest errors outside, then the narrowest. (threshold, threshold) is no zone.

    Args:
        probabilities: (n,) of the positive class, 0..1, calibrated on other collections.
        labels: (n,) 0 or 1.
        weights: (n,) not negative, for example `balanced_weights`; None: all alike.
        threshold: 0..1; from it on an image is called positive.
        target_error, min_coverage: 0..1.

    Raises:
        DataError: see `check_binary`; weights of another shape, negative, or all 0.
        UsageError: a threshold, target or coverage outside 0..1.
    """
    for name, value in (("threshold", threshold), ("target", target_error), ("coverage", min_coverage)):
        if not 0.0 <= value <= 1.0:
            raise UsageError(f"An abstain zone's {name} must lie within 0..1, but is {value:g}.")
    scores, truth = check_binary(probabilities, labels)
    share = _check_weights(weights, scores.size)
    wrong = share * ((scores >= threshold) != truth)
    # tolerance: 0.3 - 0.01 may come out a hair off a probability of 0.29
    lows = np.round(threshold - GRID * np.arange(int(threshold / GRID + 1e-9) + 1), 10)
    highs = np.round(threshold + GRID * np.arange(int((1.0 - threshold) / GRID + 1e-9) + 1), 10)
    order = np.argsort(scores, kind="stable")
    total, errors = (np.append(0.0, np.cumsum(part[order])) for part in (share, wrong))
    below = np.searchsorted(scores[order], lows, side="left")
    above = np.searchsorted(scores[order], highs, side="right")
    coverage = total[below][:, None] + (total[-1] - total[above])[None, :]
    mistakes = errors[below][:, None] + (errors[-1] - errors[above])[None, :]
    coverage[0, 0], mistakes[0, 0] = total[-1], errors[-1]  # no zone: nothing is inside
    rate = np.divide(mistakes, coverage, out=np.zeros_like(mistakes), where=coverage > 0)
    width = np.arange(lows.size)[:, None] + np.arange(highs.size)[None, :]
    allowed = (coverage >= min_coverage - 1e-12) & (coverage > 0)
    reached = allowed & (rate <= target_error + 1e-12)
    rounded_rate, rounded_coverage = np.round(rate, 12), np.round(coverage, 12)
    candidates = np.argwhere(reached if reached.any() else allowed)

    def rank(cell: NDArray[np.int64]) -> tuple[float, ...]:
        i, j = int(cell[0]), int(cell[1])
        first = (width[i, j], rounded_rate[i, j])
        return (*(first if reached.any() else first[::-1]), -rounded_coverage[i, j], -i)

    best = min(candidates, key=rank)
    return float(lows[best[0]]), float(highs[best[1]])


def measure_zone(
    probabilities: ArrayLike,
    labels: ArrayLike,
    zone: tuple[float, float],
    weights: ArrayLike | None = None,
    *,
    threshold: float = DEFAULT_THRESHOLD,
) -> ZoneFigures:
    """Coverage and errors of a zone; args and errors as for `choose_abstain_zone`."""
    scores, truth = check_binary(probabilities, labels)
    share = _check_weights(weights, scores.size)
    wrong = share * ((scores >= threshold) != truth)
    inside = is_inside(scores, *zone)
    covered, left = float(share[~inside].sum()), float(share[inside].sum())
    return ZoneFigures(
        coverage=covered,
        error_outside=float(wrong[~inside].sum()) / covered if covered > 0 else None,
        error_inside=float(wrong[inside].sum()) / left if left > 0 else None,
    )


def supported_probability(probabilities: ArrayLike, labels: ArrayLike, collections: ArrayLike) -> float:
    """The highest probability that left-out predictions bear out, of `CONFIDENCE_LEVELS`.

    An image's confidence is max(p, 1 - p), its answer positive from 0.5 on. Level c is supported if,
    among the images of confidence c or more from collections of both classes,
    - there are at least 50, and the lower end of Wilson's 95 % interval of their share answered
      rightly is at least c - 0.03, and
    - in every such collection with at least 20 of them their share answered rightly is at least c - 0.05.
    The levels are tried from 0.99 down; 0.7, the lowest, is returned untested where no other holds.

    Args:
        probabilities: (n,) of the positive class, 0..1, each calibrated on other collections.
        labels: (n,) 0 or 1. collections: (n,) name of each image's collection.

    Raises:
        DataError: see `check_binary`; another number of names.
    """
    scores, truth = check_binary(probabilities, labels)
    sources = np.asarray(collections, dtype=np.str_)
    if sources.shape != scores.shape:
        raise DataError(
            f"Expected a collection's name for each of {scores.size} images, but got shape {sources.shape}."
        )
    two_class = [name for name in np.unique(sources) if 0 < truth[sources == name].mean() < 1]
    usable = np.isin(sources, two_class)
    confidence = np.maximum(scores, 1.0 - scores)
    right = (scores >= 0.5) == truth
    for level in CONFIDENCE_LEVELS:
        sure = usable & (confidence >= level - 1e-12)
        count = int(sure.sum())
        if count < MIN_POOL_IMAGES:
            continue
        if wilson_interval(int(right[sure].sum()), count)[0] < level - POOL_SLACK:
            continue
        parts = [right[sure & (sources == name)] for name in two_class]
        if all(p.mean() >= level - COLLECTION_SLACK for p in parts if p.size >= MIN_COLLECTION_IMAGES):
            return level
    return CONFIDENCE_LEVELS[-1]


def _check_weights(weights: ArrayLike | None, count: int) -> NDArray[np.float64]:
    """Weights (count,) of sum 1."""
    share = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    if share.shape != (count,) or not np.isfinite(share).all() or share.min() < 0 or share.sum() <= 0:
        raise DataError(
            f"Expected a weight of 0 or more for each of {count} images, not all 0, but got shape"
            f" {share.shape}."
        )
    normed: NDArray[np.float64] = share / share.sum()
    return normed
