"""Probabilities that mean what they say: temperature, calibration error, operating threshold.

All of it is chosen on validation images, and reported as such.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.errors import DataError, UsageError
from covid_mm.evaluation.metrics import DEFAULT_THRESHOLD, check_binary, check_labels, roc_curve

MAX_TEMPERATURE = 20.0  # beyond, two logits ten apart come out as a coin toss


def softmax_with_temperature(logits: ArrayLike, temperature: float = 1.0) -> NDArray[np.float64]:
    """Softmax of logits / temperature along the last axis.

    Args:
        logits: (..., classes), finite.
        temperature: above 0; more than 1 makes the probabilities more modest.

    Returns:
        float64 of the same shape, 0..1, rows sum to 1.

    Raises:
        DataError: NaN or infinite logits.
        UsageError: a temperature that is not above 0.
    """
    if not (temperature > 0 and np.isfinite(temperature)):
        raise UsageError(f"A temperature must be a number above 0, but is {temperature}.")
    scaled = _check_finite(logits) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    shares: NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature of least cross-entropy on these (validation) images, 1 to 20.

    Never below 1: validation images that the network gets nearly all right would ask for
    sharper answers, which so few errors cannot support.
    Source: Guo, Pleiss, Sun, Weinberger, On calibration of modern neural networks, ICML 2017.

    Args:
        logits: (n, 2), finite.
        labels: (n,) 0 or 1.

    Raises:
        DataError: other shapes, NaN, or other labels.
    """
    from scipy.optimize import brentq  # not needed to serve a checkpoint

    values = _check_finite(logits)
    if values.ndim != 2 or values.shape[1] != 2:
        raise DataError(f"Expected logits of shape (n, 2), but they have {values.shape}.")
    truth = check_labels(labels, values.shape[0])
    # signed distance of the true class's logit above the other's
    margin = np.where(truth == 1, values[:, 1] - values[:, 0], values[:, 0] - values[:, 1])

    def slope(inverse: float) -> float:
        """Slope of the mean cross-entropy in 1/T; it rises, since the cross-entropy is convex in 1/T."""
        wrong = 0.5 * (1.0 - np.tanh(inverse * margin / 2))  # logistic, without overflow
        return float(-np.mean(margin * wrong))

    if slope(1.0) <= 0:
        return 1.0
    if slope(1.0 / MAX_TEMPERATURE) >= 0:
        return MAX_TEMPERATURE
    return 1.0 / float(brentq(slope, 1.0 / MAX_TEMPERATURE, 1.0))


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared distance of the positive class's probability from the label, 0 (best) to 1.

    Args and errors as for `count_confusion`. Source: Brier, Monthly Weather Review 78 (1950) 1-3.
    """
    scores, truth = check_binary(probabilities, labels)
    return float(np.mean((scores - truth) ** 2))


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Mean gap between the likelier class's probability and its share of right answers, 0..1.

    Equal bins of that probability over 0.5..1 (two classes reach no lower), weighted by their
    images; the likelier class is positive from 0.5 on. By hand: scikit-learn has none.
    Source: Guo et al. 2017, equation (3).

    Args:
        probabilities: (n,) probability of the positive class, 0..1.
        labels: (n,) 0 or 1.
        bins: at least 1.

    Raises:
        DataError: see `check_binary`.
        UsageError: no bin.
    """
    index, excess = find_calibration_gaps(probabilities, labels, bins)
    gaps = np.bincount(index, weights=excess, minlength=bins)
    return float(np.abs(gaps).sum() / index.size)


def find_calibration_gaps(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each image its bin, and by how much its confidence exceeds its being right (1) or wrong (0), -1..1.

    Args and errors as for `expected_calibration_error`, which is the sum of the bins' absolute sums, per image.
    """
    if bins < 1:
        raise UsageError(f"A calibration error needs at least 1 bin, but {bins} were asked for.")
    scores, truth = check_binary(probabilities, labels)
    called = scores >= 0.5
    confidence = np.where(called, scores, 1.0 - scores)
    index = np.minimum(((confidence - 0.5) * 2 * bins).astype(np.int64), bins - 1)
    return index, confidence - (called == truth)


def choose_threshold(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The threshold of greatest sensitivity + specificity (Youden's index) on validation images.

    Among equally good ones 0.5 is taken if it is one, else the one nearest to 0.5 of those
    halfway between two neighbouring probabilities, so that no image lies on the edge.

    Args and errors as for `roc_curve`.
    """
    curve = roc_curve(probabilities, labels)
    youden = curve.true_positive_rate - curve.false_positive_rate
    # point i of the curve holds for thresholds in (lower[i], upper[i]]
    upper = np.append(1.0, curve.thresholds[1:])
    lower = np.append(curve.thresholds[1:], 0.0)
    reachable = lower < upper
    reachable[-1] = True  # a threshold of 0 calls every image positive, even one of probability 0
    best = np.flatnonzero(reachable & (youden >= youden[reachable].max() - 1e-12))
    if np.any((lower[best] < DEFAULT_THRESHOLD) & (upper[best] >= DEFAULT_THRESHOLD)):
        return DEFAULT_THRESHOLD
    halfway = (lower[best] + upper[best]) / 2
    return float(halfway[np.argmin(np.abs(halfway - DEFAULT_THRESHOLD))])


def _check_finite(logits: ArrayLike) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.asarray(logits, dtype=np.float64)
    if values.size == 0 or values.ndim == 0 or not np.isfinite(values).all():
        raise DataError(
            f"Expected finite logits of at least one image, but those of shape {values.shape} are empty"
            " or hold NaN or infinity."
        )
    return values
