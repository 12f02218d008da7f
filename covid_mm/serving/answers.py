"""From a head's logits to its answer, and what a reader must know beside a study's answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITY_TITLES, POSITIVE
from covid_mm.serving.content_check import UNJUDGED
from covid_mm.serving.metadata import Metadata
from covid_mm.serving.prediction import ABSTAINED, UNDETERMINED, BranchAnswer, Notice, Prediction
from covid_mm.serving.reading import Study

LUNGLESS = "lungs_not_found_"


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


def positive_margin(meta: Metadata, head: str) -> float:
    """The difference of a head's logits at its decision threshold."""
    threshold = meta.threshold[head]
    return meta.temperature[head] * math.log(threshold / (1.0 - threshold)) + meta.offset[head]


def describe_missing_lungs(study: Study) -> tuple[Notice, ...]:
    """One notice for each image without lungs; empty where all were found, or none looked for."""
    lungless = [m for m, image in study.items() if image.lacks_lungs]
    others = [m for m in study if m not in lungless]
    rest = (
        f" Replace or remove it: the {MODALITY_TITLES[others[0]]} can be analysed alone."
        if others
        else " Replace it."
    )
    return tuple(
        Notice(
            f"{LUNGLESS}{modality}",
            f"No lungs were found on the {MODALITY_TITLES[modality]}, so there is no answer.{rest}",
        )
        for modality in lungless
    )


def find_notices(
    meta: Metadata,
    head: str,
    answer: BranchAnswer,
    branches: Mapping[str, BranchAnswer],
    heatmaps: Mapping[str, NDArray[np.float32]],
    shown: str,
    *,
    judged: bool,
) -> Iterable[Notice]:
    """What must be said beside an answer.

    Args:
        meta: of the checkpoint.
        head: that answered. answer: what it said. branches: what each modality alone says.
        heatmaps: of each modality that was given. shown: the class whose evidence they show.
        judged: whether the images' content was checked.
    """
    zone = meta.abstain_zone[head]
    if answer.label == UNDETERMINED and zone is not None:
        yield Notice(
            ABSTAINED,
            f"The probability of {CLASS_TITLES[CLASSES[POSITIVE]]} lies between {zone[0]:.0%} and {zone[1]:.0%}, where"
            " answers to images of other hospitals were wrong too often, so no class is named.",
        )
    names = {m: branch.label for m, branch in branches.items()}
    if set(names.values()) >= set(CLASSES):
        said = " and ".join(f"the {MODALITY_TITLES[m]} alone {CLASS_TITLES[n]}" for m, n in names.items())
        yield Notice(
            "branches_disagree",
            f"The two images disagree: {said}. No patient with two such images was in training, so"
            " go by each image rather than by the combined answer.",
        )
    if len(heatmaps) == 1 and meta.network.is_concatenated:
        (only,) = heatmaps
        yield Notice(
            "single_modality",
            f"Answered from the {MODALITY_TITLES[only]} alone; the other image was not given.",
        )
    for modality, heatmap in heatmaps.items():
        if not heatmap.any():
            yield Notice(
                f"no_positive_evidence_{modality}",
                f"The network found no positive evidence for {CLASS_TITLES[shown]} on the"
                f" {MODALITY_TITLES[modality]}, so its heatmap is empty.",
            )
    if not judged:
        yield Notice(
            UNJUDGED,
            "This checkpoint has no judge of image content: whatever the images show, they are answered.",
        )
    if meta.synthetic:
        yield Notice(
            "synthetic_checkpoint",
            "This checkpoint was trained on synthetic phantoms, not on patients: its answer means nothing"
            " for a person.",
        )


def refuse_study(
    meta: Metadata,
    previews: Mapping[Any, NDArray[np.uint8]],
    notices: tuple[Notice, ...],
    study: Study | None = None,
) -> Prediction:
    """No answer, and why.

    Args:
        meta: of the checkpoint.
        previews: modality -> the whole image to look at.
        notices: the reasons, at least one.
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
        warnings=notices,
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


def _sigmoid(value: float) -> float:
    """Logistic function without overflow."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    return math.exp(value) / (1.0 + math.exp(value))
