"""The paper's measures (equations (1) to (3)) and the ROC curve, from plain arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.errors import DataError
from covid_mm.json_record import JsonRecord

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class ConfusionMatrix(JsonRecord):
    """Counts of images (or pairs); positive is covid19_pneumonia.

    The rates raise DataError where their denominator is 0, rather than name a number.
    """

    true_positive: int
    true_negative: int
    false_positive: int
    false_negative: int

    @property
    def positive(self) -> int:
        """Images whose label is positive: TP + FN."""
        return self.true_positive + self.false_negative

    @property
    def negative(self) -> int:
        """Images whose label is normal: TN + FP."""
        return self.true_negative + self.false_positive

    @property
    def total(self) -> int:
        """All images."""
        return self.positive + self.negative

    @property
    def correct(self) -> int:
        """Images named rightly: TP + TN."""
        return self.true_positive + self.true_negative

    @property
    def accuracy(self) -> float:
        """(TP + TN) / (TP + TN + FP + FN), 0..1; equation (1)."""
        return _divide(self.correct, self.total, "accuracy", "an image")

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN), 0..1; equation (2)."""
        return _divide(self.true_positive, self.positive, "sensitivity", "a positive image")

    @property
    def specificity(self) -> float:
        """TN / (TN + FP), 0..1; equation (3)."""
        return _divide(self.true_negative, self.negative, "specificity", "a normal image")


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Points of the ROC curve from (0, 0) to (1, 1), as float64 arrays of one length.

    thresholds: an image is called positive from this probability on; the first is infinity.
    """

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    thresholds: NDArray[np.float64]


def count_confusion(
    probabilities: ArrayLike, labels: ArrayLike, threshold: float = DEFAULT_THRESHOLD
) -> ConfusionMatrix:
    """The confusion matrix where images from `threshold` on are called positive.

    Args:
        probabilities: (n,) probability of the positive class, 0..1.
        labels: (n,) 0 or 1.
        threshold: 0..1; a probability equal to it is called positive.

    Raises:
        DataError: see `check_binary`.
    """
    scores, truth = check_binary(probabilities, labels)
    called = scores >= threshold
    return ConfusionMatrix(
        true_positive=int(np.sum(called & truth)),
        true_negative=int(np.sum(~called & ~truth)),
        false_positive=int(np.sum(called & ~truth)),
        false_negative=int(np.sum(~called & truth)),
    )


def roc_curve(probabilities: ArrayLike, labels: ArrayLike) -> RocCurve:
    """One point for each distinct probability, ties taken together.

    Args and errors as for `count_confusion`; also DataError where a class has no image.
    """
    scores, truth = _check_both_classes(probabilities, labels)
    from sklearn.metrics import roc_curve as draw_curve  # not needed to serve a checkpoint

    return RocCurve(*draw_curve(truth, scores, drop_intermediate=False))


def roc_auc(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve, 0..1: how often a positive image scores above a normal one.

    A tie counts one half (Mann-Whitney). Args and errors as for `roc_curve`.
    """
    scores, truth = _check_both_classes(probabilities, labels)
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores))


def check_binary(
    probabilities: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The probabilities as float64 (n,) and the labels as bool (n,).

    Raises:
        DataError: NaN, values outside 0..1, other labels than 0 and 1, empty, or other shapes.
    """
    scores: NDArray[np.float64] = np.asarray(probabilities, dtype=np.float64)
    if scores.ndim != 1:
        raise DataError(
            f"Expected one probability of the positive class per image, but the shape is {scores.shape};"
            " pass probabilities[:, 1]."
        )
    truth = check_labels(labels, scores.size).astype(np.bool_)
    if not np.isfinite(scores).all():
        raise DataError(
            f"{int(np.sum(~np.isfinite(scores)))} of {scores.size} probabilities are NaN or infinite;"
            " the network or its images are damaged."
        )
    if scores.min() < 0.0 or scores.max() > 1.0:
        raise DataError(
            f"Probabilities must lie within 0..1, but reach from {scores.min():g} to {scores.max():g};"
            " pass the softmax, not the logits."
        )
    return scores, truth


def check_labels(labels: ArrayLike, count: int) -> NDArray[np.int64]:
    """The labels as int64 (count,), each 0 or 1.

    Raises:
        DataError: another count, none at all, or another value.
    """
    values: NDArray[Any] = np.asarray(labels)
    if values.shape != (count,) or count == 0:
        raise DataError(
            f"Expected one label for each of at least one image, but {count} images came with labels"
            f" of shape {values.shape}."
        )
    if not np.isin(values, (0, 1)).all():
        raise DataError("Labels must be 0 (normal) or 1 (covid19_pneumonia), but others are among them.")
    return values.astype(np.int64)


def _check_both_classes(
    probabilities: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    scores, truth = check_binary(probabilities, labels)
    if truth.all() or not truth.any():
        raise DataError(
            f"A ROC curve needs images of both classes, but {int(truth.sum())} are positive and"
            f" {int((~truth).sum())} normal; add images of the other class."
        )
    return scores, truth


def _divide(part: int, whole: int, measure: str, needed: str) -> float:
    if whole == 0:
        raise DataError(f"The {measure} needs {needed}, but there is none.")
    return part / whole
