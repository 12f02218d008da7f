"""Calibration on left-out predictions: a temperature and an offset, so that 93 % holds somewhere new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.evaluation.calibration import MAX_TEMPERATURE
from covid_mm.evaluation.left_out_predictions import (
    LeftOutPredictions,
    balanced_weights,
    choose_two_class,
    find_others,
)
from covid_mm.json_record import JsonRecord

MIN_TEMPERATURE = 0.25  # sharper than four times the network's own odds is never believed
# chosen on the left-out collections, for both modalities at once: docs/training.md
OWN_WEIGHT = 2.0  # populations that the network's own odds count as
OWN_TEMPERATURE = 1.4  # at which they are taken


@dataclass(frozen=True)
class Calibration(JsonRecord):
    """probability of positive = sigmoid((margin - offset) / temperature), at a prevalence of 1/2.

    temperature: above 0. offset: in units of the margin. collections: those it was fitted on; none of odds that are
    calibrated already.
    """

    temperature: float
    offset: float
    collections: tuple[str, ...]

    def logits(self, margins: ArrayLike) -> NDArray[np.float64]:
        """Calibrated log odds of margins of any shape."""
        return (np.asarray(margins, dtype=np.float64) - self.offset) / self.temperature

    def probabilities(self, margins: ArrayLike) -> NDArray[np.float64]:
        """Probability of the positive class, 0..1, of margins of any shape."""
        from scipy.special import expit  # not needed to serve a checkpoint

        shares: NDArray[np.float64] = expit(self.logits(margins))
        return shares


def fit_calibration(
    predictions: Sequence[LeftOutPredictions],
    *,
    own_weight: float = OWN_WEIGHT,
    own_temperature: float = OWN_TEMPERATURE,
) -> Calibration:
    """Platt's fit on all two-class collections, drawn to the network's own odds.

    The least weighted cross-entropy with a temperature of 0.25 to 20. Each collection and each class in it weigh
    alike; the network's own odds, at a temperature of their own, weigh as `own_weight` populations do: of one or two
    hospitals most of an offset is theirs, and the next one does not have it. Groups of scanners of one collection
    are one population, as their offset is one. Collections of one class are not used. By
    hand: scikit-learn's fit has neither bounds nor soft labels. Source: Platt, Probabilistic outputs for support
    vector machines, 1999, whose targets are drawn to a prior too.

    Raises:
        DataError: see `choose_two_class`.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    chosen = choose_two_class(predictions)
    margins = np.concatenate([part.margins for part in chosen])
    labels = np.concatenate([part.labels for part in chosen])
    names = np.concatenate([np.full(part.images, part.collection) for part in chosen])
    weights = balanced_weights(labels, names)
    own = own_weight / (own_weight + len({part.population for part in chosen}))
    targets = (1.0 - own) * labels + own * expit(margins / own_temperature)
    # a shift that both the fit's conditioning and separable classes profit from
    middle = float(np.sum(weights * margins))
    centred = margins - middle

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope, bias = parameters
        logits = slope * centred + bias
        value = float(np.sum(weights * (np.logaddexp(0.0, logits) - targets * logits)))
        residual = weights * (expit(logits) - targets)
        return value, np.array([np.sum(residual * centred), np.sum(residual)])

    result = minimize(
        loss,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1.0 / MAX_TEMPERATURE, 1.0 / MIN_TEMPERATURE), (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-10},
    )
    slope, bias = (float(value) for value in result.x)
    return Calibration(1.0 / slope, middle - bias / slope, tuple(part.collection for part in chosen))


def leave_one_calibration(
    predictions: Sequence[LeftOutPredictions],
    *,
    own_weight: float = OWN_WEIGHT,
    own_temperature: float = OWN_TEMPERATURE,
) -> dict[str, Calibration]:
    """For each collection the calibration fitted on the other two-class collections.

    What a collection would get that neither network nor calibration saw. Where no other has both
    classes it is fitted on the collection itself: `Calibration.collections` then names it.

    own_weight, own_temperature, errors: as for `fit_calibration`.
    """
    chosen = choose_two_class(predictions)
    return {
        part.collection: fit_calibration(
            find_others(part, chosen), own_weight=own_weight, own_temperature=own_temperature
        )
        for part in predictions
    }
