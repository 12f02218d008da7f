"""AUC with an interval that respects patients: images of one patient are not independent."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.errors import DataError, UsageError
from covid_mm.evaluation.intervals import CONFIDENCE, Estimate, auc_interval
from covid_mm.evaluation.left_out_predictions import number_patients
from covid_mm.evaluation.metrics import check_labels

RESAMPLES = 1000
_CHUNK = 100  # resamples at once: 4000 images then take 3 MB an array


def estimate_auc_by_patient(
    scores: ArrayLike,
    labels: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """The AUC with its 95 % interval: percentiles of a bootstrap over patients.

    Where every patient has one image, or the AUC is 0 or 1 (the bootstrap shrinks to a point),
    Newcombe's score interval, in the latter case from patients, not images, of each class. The
    interval always holds the measured AUC.

    Args:
        scores: (n,) any finite numbers, higher = more positive (margins will do).
        labels: (n,) 0 or 1, both present.
        patients: (n,) names; "" or None = a patient of its own.
        resamples: at least 1. seed: of the resampling; the same seed gives the same interval.

    Raises:
        DataError: one class alone, lengths that differ, NaN.
        UsageError: no resample.
    """
    values, truth = _check(scores, labels)
    numbers = number_patients(patients, truth.size)
    area = float(_weighted_aucs(values, truth, np.ones((1, truth.size)))[0])
    positive, normal = (np.unique(numbers[truth == label]).size for label in (1, 0))
    if numbers.max() + 1 == truth.size or area in (0.0, 1.0):
        low, high = auc_interval(area, positive, normal)
    else:
        areas = bootstrap_aucs(scores, labels, patients, resamples=resamples, seed=seed)
        low, high = percentile_interval(areas)
    return Estimate(value=area, low=min(low, area), high=max(high, area))


def bootstrap_aucs(
    scores: ArrayLike,
    labels: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """AUCs (resamples,) of samples of as many patients, drawn with replacement with all their images.

    A sample without one of the classes is NaN. Args and errors as for `estimate_auc_by_patient`.
    """
    if resamples < 1:
        raise UsageError(f"A bootstrap needs at least 1 resample, but {resamples} were asked for.")
    values, truth = _check(scores, labels)
    numbers = number_patients(patients, truth.size)
    count = int(numbers.max()) + 1
    generator = np.random.default_rng(seed)
    parts = []
    for start in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        drawn = generator.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        parts.append(_weighted_aucs(values, truth, times[:, numbers].astype(np.float64)))
    return np.concatenate(parts)


def percentile_interval(values: NDArray[np.float64], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The central interval of bootstrap values, NaN left out.

    Raises:
        DataError: nothing but NaN.
    """
    known = values[np.isfinite(values)]
    if known.size == 0:
        raise DataError("Expected resamples with both classes, but none has; add patients of each class.")
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(known, (tail, 1.0 - tail))
    return float(low), float(high)


def _weighted_aucs(
    values: NDArray[np.float64], truth: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """AUC of each row of weights (rows, n); a tie counts one half. NaN where a class has no weight.

    By hand: scikit-learn takes one row of weights per call, not a chunk of resamples.
    """
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(values[order]) > 0))
    ordered = weights[:, order]
    positive = np.add.reduceat(ordered * truth[order], starts, axis=1)
    normal = np.add.reduceat(ordered * (1 - truth[order]), starts, axis=1)
    below = np.cumsum(normal, axis=1) - normal / 2
    pairs = positive.sum(axis=1) * normal.sum(axis=1)
    wins = np.sum(positive * below, axis=1)
    areas: NDArray[np.float64] = np.divide(wins, pairs, out=np.full(wins.shape, np.nan), where=pairs > 0)
    return areas


def _check(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    values: NDArray[np.float64] = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise DataError(
            f"Expected one finite score per image, but those of shape {values.shape} do not give that."
        )
    truth = check_labels(labels, values.size)
    if not 0 < truth.sum() < truth.size:
        raise DataError(
            f"An AUC needs images of both classes, but {int(truth.sum())} of {truth.size} are positive."
        )
    return values, truth
