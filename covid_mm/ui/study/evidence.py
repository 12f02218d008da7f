"""What an answer is worth where the network was never trained: figures and zone, in words.

Everything here comes from collections that were left out of training. Figures of the training
collections' own validation images stand on the Model tab only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from covid_mm.config import CLASSES, MODALITIES, POSITIVE
from covid_mm.evaluation.local_test import HeadTest
from covid_mm.explain.method_table import METHODS
from covid_mm.formats import bound_probability
from covid_mm.reporting.card_words import HEAD_TITLES
from covid_mm.reporting.local_test import describe_head
from covid_mm.serving.label_meaning import describe_positives
from covid_mm.serving.prediction import Evidence, HeatLocation, Prediction
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.templates import render_template

OUTSIDE = 0.01  # of the bar, by which an answer that names a class lies outside its abstain zone at least

NEVER_SAW_IMAGES = (
    "On hospitals and scanners never seen in training: sensitivity {sensitivity}, specificity {specificity}, AUC {auc},"
    " {images} images of {collections}."
)
WORTH = (
    "{title}: sensitivity {sensitivity}, specificity {specificity}, AUC {auc}; {images} images of {count} sources left"
    " out in turn."
)
NEVER_SAW = {  # by what was counted
    "images": NEVER_SAW_IMAGES,
    "scans": NEVER_SAW_IMAGES.replace("{images} images", "{images} CT scans or parts of scans"),
    "pairs": NEVER_SAW_IMAGES.replace("{images} images", "{images} pairs of a CT scan and a film"),
}
OWN_TEST = (
    "On this hospital's own studies, tested here first: sensitivity {sensitivity}, specificity {specificity}, AUC"
    " {auc}, calibration error {ece}, undetermined {abstained}, {studies} studies, {positive} of them positive."
)
NOT_LEFT_OUT = (
    "How good this checkpoint is on hospitals and scanners never seen in training was not measured: do not trust its"
    " probability."
)
OTHER_DISEASES = (
    "The network learned from normal and COVID-19 images only: opacities of other lung diseases are called COVID-19"
    " pneumonia too."
)
INDEPENDENT = (
    "CT and X-ray are taken as independent evidence. Where they are not (one patient on one day, one mistake that"
    " both images invite), the combined probability is too sure."
)
LOCATIONS = {  # by what was marked, where the shown map is of the method and layer that were measured
    "opacity boxes": "{method}, {layer}. On {images} films of scanners never seen in training the hottest point lay on"
    " a radiologist's box in {hit} (chance {chance}).",
    "lesion masks": "{method}, {layer}. On {images} slices of hospitals never seen in training the hottest point lay on"
    " a radiologist's lesion mask in {hit} (chance {chance}).",
}
PAIRED = " with "  # in the name of a left-out pair of collections
NOT_LOCATED = (
    "{method}, {layer}. How often the hottest point of such a map lies on a lesion was not measured."
)
LAYER_TITLES = {"coarse": "coarse (last convolution)", "fine": "fine (earlier layer)"}


def format_probability(value: float, supported: float = 1.0, texts: Texts = ENGLISH) -> str:
    """A probability in whole percent, `over 97 %` or `under 3 %` where it reaches what is supported.

    supported: the highest probability, 0.5..1, that left-out predictions support. Never more
    certain than 99 %.
    """
    bound, percent = bound_probability(value, supported)
    if bound == "over":
        return texts("over {percent} %", percent=percent)
    return texts("under {percent} %", percent=percent) if bound else f"{percent} %"


def find_bar_end(value: float, label: str, zone: tuple[float, float] | None) -> float:
    """Where an answer's bar ends, 0..1: at its probability, and outside the abstain zone where it names a class.

    The zone may reach beyond what is supported: a probability shown as `over 85 %` then is above a zone up to 91 %,
    or the answer would be undetermined, but a bar of 85 % would end inside it.
    """
    if zone is None or label not in CLASSES:
        return value
    low, high = zone
    return (
        max(value, min(1.0, high + OUTSIDE))
        if label == CLASSES[POSITIVE]
        else min(value, max(0.0, low - OUTSIDE))
    )


def describe_evidence(evidence: Evidence | None, texts: Texts = ENGLISH) -> str:
    """One sentence: the left-out figures of a head, or that there are none."""
    if evidence is None:
        return texts(NOT_LEFT_OUT)
    return texts(
        NEVER_SAW[evidence.unit],
        sensitivity=texts.percent(evidence.sensitivity, 0),
        specificity=texts.percent(evidence.specificity, 0),
        auc=texts.estimate(evidence.auc, evidence.auc_low, evidence.auc_high, 2),
        images=texts.number(evidence.images),
        collections=name_collections(evidence.collections),
    )


def describe_own_test(own_test: HeadTest | None, texts: Texts = ENGLISH) -> str:
    """One sentence: what a head was worth on this hospital's own studies; empty where it was not tested."""
    return "" if own_test is None else texts(OWN_TEST, **describe_head(own_test, texts))


def name_collections(names: Sequence[str]) -> str:
    """Their names; of pairs, where each of some was joined to each of others, both lists once."""
    pairs = [tuple(name.split(PAIRED)) for name in names]
    if len(names) > 1 and all(len(pair) == 2 for pair in pairs):
        lists = [list(dict.fromkeys(pair[side] for pair in pairs)) for side in (0, 1)]
        if sorted(pairs) == sorted(itertools.product(*lists)):
            return " × ".join(", ".join(part) for part in lists)  # noqa: RUF001
    return ", ".join(names)


def describe_meanings(prediction: Prediction, texts: Texts = ENGLISH) -> list[str]:
    """What a positive label means, by image, where that is more than COVID-19."""
    return [
        describe_positives(sources, texts(MODALITIES[modality].title), texts)
        for modality, sources in prediction.positives.items()
    ]


def list_worth(meta: Mapping[str, Any], texts: Texts = ENGLISH) -> list[str]:
    """A line per modality: what its answer is worth where the network never was; none where it was not measured."""
    lines = []
    for modality in MODALITIES:
        evidence = read_evidence(meta, modality)
        if evidence is not None:
            lines.append(
                texts(
                    WORTH,
                    title=texts(HEAD_TITLES[modality]),
                    sensitivity=texts.percent(evidence.sensitivity, 0),
                    specificity=texts.percent(evidence.specificity, 0),
                    auc=texts.estimate(evidence.auc, evidence.auc_low, evidence.auc_high, 2),
                    images=texts.number(evidence.images),
                    count=len(evidence.collections),
                )
            )
    return lines


def render_worth(meta: Mapping[str, Any] | None, texts: Texts = ENGLISH) -> str:
    """What stands above the empty result before anything is dropped; an empty line as long as no meta.json is known."""
    if meta is None:
        return "<p></p>"
    return render_template("study/worth.html", texts, lines=list_worth(meta, texts), lacking=NOT_LEFT_OUT)


def read_evidence(meta: Mapping[str, Any], head: str) -> Evidence | None:
    """The left-out figures that meta.json keeps of a head; None where it keeps none that can be read."""
    try:
        described = meta["evidence"][head]
        figures = {name: float(described[name]) for name in ("auc", "auc_low", "auc_high")}
        return Evidence(
            **figures,
            sensitivity=float(described["sensitivity"]),
            specificity=float(described["specificity"]),
            collections=tuple(str(name) for name in described["collections"]),
            images=int(described["images"]),
            ece=None if described.get("ece") is None else float(described["ece"]),
            unit=str(described.get("unit", "images")),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def read_zone(meta: Mapping[str, Any], head: str) -> tuple[float, float] | None:
    """Lowest and highest probability inside which a head abstains, 0..1; None without a zone."""
    try:
        low, high = (float(bound) for bound in meta["abstain_zone"][head])
    except (KeyError, TypeError, ValueError):
        return None
    return (low, high) if 0 <= low < high <= 1 else None


def find_tables(left_out: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(head, its table) of `meta["left_out"]["heads"]`, a list of them."""
    named = left_out.get("heads") if isinstance(left_out, Mapping) else None
    for part in named if isinstance(named, list) else ():
        rows = part.get("rows") if isinstance(part, Mapping) else None
        if isinstance(rows, list) and part.get("head") in HEAD_TITLES:
            yield part["head"], part


def describe_heat_location(
    location: HeatLocation | None, method: str, layer: str, target: str, texts: Texts = ENGLISH
) -> str:
    """How often a map of this method and layer points at a lesion, measured on left-out images.

    location: of the checkpoint's own maps; it says nothing of another method, layer or class.
    """
    named = {"method": METHODS[method].title, "layer": texts(LAYER_TITLES[layer])}
    if (
        location is None
        or (location.method, location.layer) != (method, layer)
        or target != CLASSES[POSITIVE]
        or location.target not in LOCATIONS
    ):
        return texts(NOT_LOCATED, **named)
    return texts(
        LOCATIONS[location.target],
        **named,
        images=texts.number(location.images),
        hit=texts.percent(location.hit, 0),
        chance=texts.percent(location.chance, 0),
    )


def read_supported(meta: Mapping[str, Any], head: str) -> float:
    """The highest probability that a head's left-out predictions support; 1 where meta.json names none."""
    try:
        return float(meta["supported_probability"][head])
    except (KeyError, TypeError, ValueError):
        return 1.0
