"""How good an answer is: the paper's measures, intervals, calibration. No network in sight."""

from __future__ import annotations

from covid_mm.evaluation.calibration import (
    brier_score,
    choose_threshold,
    expected_calibration_error,
    fit_temperature,
    softmax_with_temperature,
)
from covid_mm.evaluation.intervals import (
    Estimate,
    Proportion,
    auc_interval,
    estimate_auc,
    wilson_interval,
)
from covid_mm.evaluation.metrics import (
    DEFAULT_THRESHOLD,
    ConfusionMatrix,
    RocCurve,
    count_confusion,
    roc_auc,
    roc_curve,
)
from covid_mm.evaluation.report import BinaryReport, evaluate_binary

__all__ = [
    "DEFAULT_THRESHOLD",
    "BinaryReport",
    "ConfusionMatrix",
    "Estimate",
    "Proportion",
    "RocCurve",
    "auc_interval",
    "brier_score",
    "choose_threshold",
    "count_confusion",
    "estimate_auc",
    "evaluate_binary",
    "expected_calibration_error",
    "fit_temperature",
    "roc_auc",
    "roc_curve",
    "softmax_with_temperature",
    "wilson_interval",
]
