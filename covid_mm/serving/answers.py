"""From a head's logits to its answer, and what a reader must know with a study's answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITIES, POSITIVE, Modality, join_titles
from covid_mm.formats import format_percent
from covid_mm.imaging import CtScan, WindowSettings
from covid_mm.models.heads import FUSED
from covid_mm.serving.metadata import Metadata
from covid_mm.serving.prediction import (
    ABSTAINED,
    DISAGREE,
    UNDETERMINED,
    BranchAnswer,
    Evidence,
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


@dataclass(frozen=True)
class AnswerRule:
    """How a combination of images is answered; the fields are those of Metadata.

    heads: those whose calibrated logits are added up, one but where some of a network's images are missing.
    """

    heads: tuple[str, ...]
    threshold: float
    abstain_zone: tuple[float, float] | None
    supported_probability: float
    evidence: Evidence | None
    heatmap_scale: dict[Modality, float]


def find_rule(meta: Metadata, modalities: tuple[Modality, ...]) -> AnswerRule:
    """The rule by which images of these modalities are answered.

    All of a network's images: by its concatenated head (or only one). One: by its branch's own head. Several,
    but not all: by the sum of the branches' calibrated logits, Bayes' rule for independent evidence at even
    odds, which the concatenated head was trained to give for all of them; so its threshold, abstain zone and
    supported probability hold. How good such sums are was not measured: there is no evidence.
    """
    heads: tuple[str, ...]
    whole = modalities == meta.network.modalities
    if whole or len(modalities) == 1:
        head = meta.heads[0] if whole else modalities[0]
        heads, evidence, scale = (head,), meta.evidence[head], meta.heatmap_scale[head]
    else:
        head, heads, evidence = meta.heads[0], modalities, None
        scale = {m: meta.heatmap_scale[m][m] for m in modalities}
    return AnswerRule(
        heads,
        meta.threshold[head],
        meta.abstain_zone[head],
        meta.supported_probability[head],
        evidence,
        scale,
    )


def answer_by(
    meta: Metadata, modalities: tuple[Modality, ...], logits: Mapping[str, NDArray[np.float32]]
) -> BranchAnswer:
    """Calibrated probabilities of a combination of images, and the label by threshold and abstain zone.

    The label goes by the probability as it is; the one that is shown is cut to what left-out
    predictions support. logits: at least of the heads that `find_rule` names, float32 (2,).
    """
    rule = find_rule(meta, modalities)
    margins = {head: float(logits[head][POSITIVE] - logits[head][1 - POSITIVE]) for head in rule.heads}
    exact = _sigmoid(sum((margin - meta.offset[h]) / meta.temperature[h] for h, margin in margins.items()))
    supported, zone = rule.supported_probability, rule.abstain_zone
    positive = min(max(exact, 1.0 - supported), supported)
    label: str = CLASSES[POSITIVE if exact >= rule.threshold else 1 - POSITIVE]
    if zone is not None and zone[0] <= exact <= zone[1]:
        label = UNDETERMINED
    probabilities: dict[str, float] = {CLASSES[1 - POSITIVE]: 1.0 - positive, CLASSES[POSITIVE]: positive}
    return BranchAnswer(label, probabilities, supported)


def weigh_heads(meta: Metadata, rule: AnswerRule) -> tuple[dict[str, float], float]:
    """The weight of each head's difference of logits, and the weighted sum at the decision threshold."""
    weights = {head: 1.0 / meta.temperature[head] for head in rule.heads}
    offsets = sum(meta.offset[head] * weight for head, weight in weights.items())
    return weights, math.log(rule.threshold / (1.0 - rule.threshold)) + offsets


def weigh_outputs(meta: Metadata, modalities: tuple[Modality, ...]) -> tuple[dict[str, float], float]:
    """As `weigh_heads`, by the network's own names of its heads: a single network's only one is `fused` there."""
    weights, least = weigh_heads(meta, find_rule(meta, modalities))
    if FUSED not in weights and modalities == meta.network.modalities:
        weights = {FUSED: weights[modalities[0]]}
    return weights, least


def disagree(branches: Mapping[str, BranchAnswer]) -> bool:
    """Whether one branch names one class and another the other: each is outside its own abstain zone.

    Of 3,000 left-out pairs of one label 13.8 % disagree so; combined is right on 51.8 % of these, on 98.5 % where
    both name one class (benchmarks/verdict.py).
    """
    return {branch.label for branch in branches.values()} >= set(CLASSES)


def describe_missing_lungs(study: Study) -> tuple[Notice, ...]:
    """One warning for each image without lungs; empty where all were found, or none looked for."""
    lacking = [m for m, image in study.items() if image.lacks_lungs]
    usable = [m for m in study if m not in lacking]
    if not usable:
        return tuple(warn("lungs_not_found", modality) for modality in lacking)
    other = MODALITIES[usable[0]].title
    return tuple(warn("lungs_not_found_on_one", modality, other=other) for modality in lacking)


def find_warnings(
    meta: Metadata,
    answer: BranchAnswer,
    branches: Mapping[Modality, BranchAnswer],
    heatmaps: Mapping[Modality, NDArray[np.float32]],
    shown: str,
    *,
    checked: bool,
) -> Iterable[Notice]:
    """What must be said with an answer.

    Args:
        meta: of the checkpoint.
        answer: to the study. branches: what each modality alone says.
        heatmaps: of each modality that was given. shown: the class whose evidence they show.
        checked: whether the images' content was checked.
    """
    given = tuple(heatmaps)
    zone = find_rule(meta, given).abstain_zone
    if disagree(branches):
        yield describe_disagreement({m: branch.label for m, branch in branches.items()})
    elif answer.label == UNDETERMINED and zone is not None:
        yield warn(ABSTAINED, low=format_percent(zone[0]), high=format_percent(zone[1]))
    missing = [m for m in meta.network.modalities if m not in given]
    if missing and len(given) == 1:
        yield warn("single_modality", given[0])
    elif missing:
        yield warn("missing_images", missing=join_titles(missing))
    for modality, heatmap in heatmaps.items():
        # an answer that names normal needs no evidence for the other class
        if not heatmap.any() and (shown == answer.label or answer.label == UNDETERMINED):
            yield warn("no_positive_evidence", modality, target=CLASS_TITLES[shown])
    if not checked:
        yield warn("content_not_checked")
    if meta.synthetic:
        yield warn("synthetic_checkpoint")


def describe_disagreement(labels: Mapping[Modality, str]) -> Notice:
    """The warning for branches of which one calls a study normal and another positive: the first of each."""
    naming = {label: next(m for m, said in labels.items() if said == label) for label in CLASSES}
    first, second = (m for m in labels if m in naming.values())
    return warn(
        DISAGREE,
        first=MODALITIES[first].title,
        first_label=CLASS_TITLES[labels[first]],
        second=MODALITIES[second].title,
        second_label=CLASS_TITLES[labels[second]],
    )


def refuse_study(
    meta: Metadata,
    previews: Mapping[Modality, NDArray[np.uint8]],
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
    weights, least = weigh_heads(meta, find_rule(meta, (SCANNED,)))
    slices = []
    for index, position in enumerate(scan.positions):
        margin = margins.get(index)
        probability = None
        if margin is not None:
            probability = answer_by(meta, (SCANNED,), {SCANNED: split_margin(margin)}).probabilities[
                CLASSES[POSITIVE]
            ]
        slices.append(
            SliceAnswer(
                index,
                position,
                margin is not None,
                probability,
                margin is not None and margin * weights[SCANNED] >= least,
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
