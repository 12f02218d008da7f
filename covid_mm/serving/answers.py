"""From a head's logits to its answer, and what a reader must know with a study's answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASS_TITLES, CLASSES, POSITIVE
from covid_mm.formats import format_percent
from covid_mm.imaging import CtScan, WindowSettings
from covid_mm.serving.metadata import Metadata
from covid_mm.serving.prediction import (
    ABSTAINED,
    DISAGREE,
    UNDETERMINED,
    BranchAnswer,
    Notice,
    Prediction,
    ScanAnswer,
    SliceAnswer,
)
from covid_mm.serving.reading import Study
from covid_mm.serving.scan_files import SCANNED
from covid_mm.serving.warnings import LEFT_OUT_WARNINGS, warn

if TYPE_CHECKING:
    from covid_mm.serving.scan_reader import ScanReading  # with TensorFlow, which nothing here needs


def answer_head(meta: Metadata, head: str, logits: NDArray[np.float32]) -> BranchAnswer:
    """Calibrated probabilities from two logits, and the label by threshold and abstain zone.

    The label goes by the probability as it is; the one that is shown is cut to what left-out
    predictions support.
    """
    difference = float(logits[POSITIVE] - logits[1 - POSITIVE]) - meta.offset[head]
    exact = _sigmoid(difference / meta.temperature[head])
    supported = meta.supported_probability[head]
    positive = min(max(exact, 1.0 - supported), supported)
    zone = meta.abstain_zone[head]
    label: str = CLASSES[POSITIVE if exact >= meta.threshold[head] else 1 - POSITIVE]
    if zone is not None and zone[0] <= exact <= zone[1]:
        label = UNDETERMINED
    probabilities: dict[str, float] = {CLASSES[1 - POSITIVE]: 1.0 - positive, CLASSES[POSITIVE]: positive}
    return BranchAnswer(label, probabilities, supported)


def disagree(branches: Mapping[str, BranchAnswer]) -> bool:
    """Whether one branch names one class and another the other: each is outside its own abstain zone.

    Of 3,000 left-out pairs of one label 13.8 % disagree so; combined is right on 51.8 % of these, on 98.5 % where
    both name one class (benchmarks/verdict.py).
    """
    return {branch.label for branch in branches.values()} >= set(CLASSES)


def positive_margin(meta: Metadata, head: str) -> float:
    """The difference of a head's logits at its decision threshold."""
    threshold = meta.threshold[head]
    return meta.temperature[head] * math.log(threshold / (1.0 - threshold)) + meta.offset[head]


def describe_missing_lungs(study: Study) -> tuple[Notice, ...]:
    """One warning for each image without lungs; empty where all were found, or none looked for."""
    lacking = [m for m, image in study.items() if image.lacks_lungs]
    name = "lungs_not_found" if len(lacking) == len(study) else "lungs_not_found_on_one"
    return tuple(warn(name, modality) for modality in lacking)


def find_warnings(
    meta: Metadata,
    head: str,
    answer: BranchAnswer,
    branches: Mapping[str, BranchAnswer],
    heatmaps: Mapping[str, NDArray[np.float32]],
    shown: str,
    *,
    checked: bool,
) -> Iterable[Notice]:
    """What must be said with an answer.

    Args:
        meta: of the checkpoint.
        head: that answered. answer: what it said. branches: what each modality alone says.
        heatmaps: of each modality that was given. shown: the class whose evidence they show.
        checked: whether the images' content was checked.
    """
    zone = meta.abstain_zone[head]
    if disagree(branches):
        yield warn(DISAGREE, **{m: CLASS_TITLES[branch.label] for m, branch in branches.items()})
    elif answer.label == UNDETERMINED and zone is not None:
        yield warn(ABSTAINED, low=format_percent(zone[0]), high=format_percent(zone[1]))
    if len(heatmaps) == 1 and meta.network.is_concatenated:
        yield warn("single_modality", next(iter(heatmaps)))
    for modality, heatmap in heatmaps.items():
        if not heatmap.any():
            yield warn("no_positive_evidence", modality, target=CLASS_TITLES[shown])
    if not checked:
        yield warn("content_not_checked")
    if meta.synthetic:
        yield warn("synthetic_checkpoint")


def refuse_study(
    meta: Metadata,
    previews: Mapping[Any, NDArray[np.uint8]],
    reasons: tuple[Notice, ...],
    study: Study | None = None,
) -> Prediction:
    """No answer, and why.

    Args:
        meta: of the checkpoint.
        previews: modality -> the whole image to look at.
        reasons: at least one.
        study: with the lungs that were found, where they may be shown.
    """
    return Prediction(
        label=UNDETERMINED,
        probabilities={},
        branches={m: BranchAnswer(UNDETERMINED, {}) for m in previews},
        modalities=tuple(previews),
        heatmaps={},
        heatmap_class=CLASSES[POSITIVE],
        images=dict(previews),
        warnings=reasons,
        checkpoint=meta.info,
        heatmap_method=meta.heatmap_method,
        heatmap_layer=meta.heatmap_layer,
        **describe_lungs(study or {}),
    )


def describe_lungs(study: Study) -> dict[str, Any]:
    """The fields of a prediction that say where the lungs are."""
    return {
        "lungs": {m: image.box for m, image in study.items()},
        "outlines": {m: image.region.outline for m, image in study.items() if image.region is not None},
    }


def split_margin(margin: float) -> NDArray[np.float32]:
    """Two logits (2,) float32 whose difference is a margin."""
    return np.array([-margin / 2, margin / 2], np.float32)


def describe_scan(
    meta: Metadata, scan: CtScan, reading: ScanReading, shown: int, window: WindowSettings | str | None
) -> ScanAnswer:
    """What each slice of a scan says by itself. shown: the slice that the heatmap is of."""
    margins = dict(zip(reading.rows.tolist(), reading.margins.tolist(), strict=True))
    least = positive_margin(meta, SCANNED)
    slices = []
    for index, position in enumerate(scan.positions):
        margin = margins.get(index)
        probability = None
        if margin is not None:
            probability = answer_head(meta, SCANNED, split_margin(margin)).probabilities[CLASSES[POSITIVE]]
        slices.append(
            SliceAnswer(
                index, position, margin is not None, probability, margin is not None and margin >= least
            )
        )
    return ScanAnswer(tuple(slices), shown, scan.find_window(window), meta.threshold[SCANNED], scan.left_out)


def find_scan_warnings(meta: Metadata, prediction: Prediction, answer: ScanAnswer) -> Iterable[Notice]:
    """What must be said with an answer to a whole scan, beside what is said of every study."""
    if prediction.probabilities and not meta.scan.is_calibrated:
        yield warn("scan_not_calibrated")
    for reason, count in answer.left_out.items():
        yield warn(LEFT_OUT_WARNINGS[reason], count=str(count))


def _sigmoid(value: float) -> float:
    """Logistic function without overflow."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    return math.exp(value) / (1.0 + math.exp(value))
