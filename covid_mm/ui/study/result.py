"""A prediction as the page shows it: what result.html is filled in with, for each state of the result panel."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from markupsafe import Markup

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITIES, POSITIVE, RESEARCH_USE
from covid_mm.reporting.card_words import HEAD_TITLES
from covid_mm.serving.prediction import ABSTAINED, DISAGREE, UNDETERMINED, BranchAnswer, Prediction
from covid_mm.serving.warnings import NO_COMBINED
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.pictures import LUNGS_OUTLINE, draw_outlines, make_colour_bar
from covid_mm.ui.study.analysis import FUSED, Analysis
from covid_mm.ui.study.evidence import (
    INDEPENDENT,
    OTHER_DISEASES,
    describe_evidence,
    describe_meanings,
    describe_own_test,
    find_bar_end,
    format_probability,
    read_zone,
)
from covid_mm.ui.study.heatmaps import ATTENTION_CHOICE, describe_map, list_choosers
from covid_mm.ui.study.images import SLOT_TITLES
from covid_mm.ui.study.operating_point import find_left_out, render_operating
from covid_mm.ui.study.series import render_series
from covid_mm.ui.study.warnings import find_reasons, list_warnings, word_reason, word_warning
from covid_mm.ui.templates import render_template

POSITIVE_CLASS = CLASSES[POSITIVE]
SWAPPED_CODES = ("swapped_inputs", "modality_mismatch_", "wrong_modality_")  # mended by one click
NEAR_THRESHOLD = 0.005  # closer than a rounded percentage can tell apart
OUTLINE_KEY = "solid: the lungs as found; dashed: the part that was read"


def render_empty(texts: Texts = ENGLISH) -> str:
    """What stands where the answer will be."""
    return _render("", texts)


def render_error(sentence: str, texts: Texts = ENGLISH) -> str:
    """One sentence about what went wrong, instead of the answer."""
    return _render("", texts, error=sentence)


def render_analysis(analysis: Analysis, texts: Texts = ENGLISH) -> str:
    """The whole answer: class, probabilities, left-out evidence, warnings, images with maps, checkpoint."""
    prediction = analysis.prediction
    warnings = list_warnings(prediction)
    outlined = any(draw_outlines(prediction, m) for m in analysis.previews)
    return _render(
        texts("Answer: {answer}.", answer=_describe_answer(prediction, texts)),
        texts,
        answer=_list_answer(prediction, texts),
        worth=_list_evidence(analysis, texts),
        bars=_list_bars(analysis, texts),
        operating=_render_operating(analysis, texts),
        warnings=[(one.code, word_warning(one, texts)) for one in warnings],
        swappable=any(one.code.startswith(SWAPPED_CODES) for one in warnings),
        outlined=outlined,
        choosers=list_choosers(
            prediction.heatmap_class, analysis.kind, prediction.checkpoint.heatmap_methods, texts
        )
        if prediction.heatmaps
        else (),
        attention=json.dumps(ATTENTION_CHOICE),
        images=list(_list_images(analysis, texts)),
        evident=bool(prediction.heatmaps),
        checkpoint=_list_checkpoint(prediction, texts),
        lungs_outline=LUNGS_OUTLINE,
        outline_key=OUTLINE_KEY,
        colour_bar=make_colour_bar(),
    )


def join_modalities(modalities: Iterable[str], texts: Texts = ENGLISH) -> str:
    """`CT and X-ray`, or the one there is."""
    return texts(" and ").join(texts(MODALITIES[modality].title) for modality in modalities)


def _render(status: str, texts: Texts, error: str = "", answer: Any = None, **values: Any) -> str:
    return render_template(
        "study/result.html",
        texts,
        status=status,
        research_use=RESEARCH_USE,
        error=error,
        answer=answer,
        **values,
    )


def _describe_answer(prediction: Prediction, texts: Texts) -> str:
    text = texts(CLASS_TITLES[prediction.label])
    if prediction.label in prediction.probabilities:
        value = prediction.probabilities[prediction.label]
        shown = format_probability(value, prediction.supported_probability, texts)
        text += texts(", probability {shown}", shown=shown)
    return text


def _list_answer(prediction: Prediction, texts: Texts) -> dict[str, Any]:
    """The label with its source, reasons and figures, and whether the two images agree."""
    probabilities, supported = prediction.probabilities, prediction.supported_probability
    used = join_modalities(prediction.modalities, texts)
    alone = len(prediction.modalities) == 1
    source = texts("from the {used} alone" if alone else "from {used} combined", used=used)
    figures = [
        (name, texts(CLASS_TITLES[name]), format_probability(probabilities[name], supported, texts))
        for name in (CLASSES if prediction.label in probabilities else ())
    ]
    compared = not alone and bool(probabilities)
    return {
        "label": prediction.label,
        "title": texts(CLASS_TITLES[prediction.label]),
        "abstains": prediction.reason == ABSTAINED,
        "source": source if probabilities else "",
        "reasons": [(one.code, word_reason(one, texts)) for one in find_reasons(prediction)],
        "disagree": NO_COMBINED if prediction.reason == DISAGREE else "",
        "agreement": _describe_agreement(prediction, texts) if compared else "",
        "figures": figures,
    }


def _describe_agreement(prediction: Prediction, texts: Texts) -> str:
    labels = {answer.label for answer in prediction.branches.values()}
    if len(labels) > 1 or UNDETERMINED in labels:
        return ""  # one of them abstains, as its bar says
    if labels == {prediction.label}:
        return texts("CT and X-ray agree")
    return texts("CT and X-ray agree, but each alone says {label}", label=texts(CLASS_TITLES[labels.pop()]))


def _list_evidence(analysis: Analysis, texts: Texts) -> dict[str, Any]:
    """What the probability is worth where the network was never trained; nothing without a probability."""
    prediction = analysis.prediction
    if not prediction.probabilities:
        return {}
    return {
        "measured": "true" if prediction.evidence else "false",
        "sentence": describe_evidence(prediction.evidence, texts),
        "own_test": describe_own_test(analysis.own_test, texts),
        "other_diseases": texts(OTHER_DISEASES) if prediction.label == POSITIVE_CLASS else "",
        "meanings": describe_meanings(prediction, texts),
        "independent": texts(INDEPENDENT) if len(prediction.modalities) > 1 else "",
    }


def _render_operating(analysis: Analysis, texts: Texts) -> Markup:
    """Other thresholds on left-out images; nothing where those were not measured."""
    probabilities = analysis.prediction.probabilities
    if not probabilities or analysis.prediction.evidence is None or analysis.prediction.scan is not None:
        return Markup()  # they were counted on images, not on scans
    points = find_left_out(analysis.meta, analysis.head)
    return render_operating(
        points,
        analysis.thresholds[analysis.head],
        texts,
        probabilities[POSITIVE_CLASS],
        supported=analysis.prediction.supported_probability,
    )


def _list_bars(analysis: Analysis, texts: Texts) -> dict[str, Any]:
    """One bar per head on the same scale, each with its own threshold and abstain zone; none without an answer."""
    prediction = analysis.prediction
    if not prediction.probabilities:
        return {}
    rows: list[dict[str, Any]] = []
    ticks, zones = {}, {}
    for head, name, answer in _list_heads(prediction, texts):
        threshold, value = analysis.thresholds[head], answer.probabilities[POSITIVE_CLASS]
        zone = prediction.abstain_zone if head == analysis.head else read_zone(analysis.meta, head)
        near = ""
        if answer.label != UNDETERMINED and abs(value - threshold) < NEAR_THRESHOLD:
            near = texts(", just below the threshold" if value < threshold else ", just above the threshold")
        rows.append(
            {
                "head": head,
                "name": name,
                "label": answer.label,
                "title": texts(CLASS_TITLES[answer.label]),
                "value": find_bar_end(value, answer.label, zone),
                "probability": value,
                "supported": answer.supported_probability,
                "shown": format_probability(value, answer.supported_probability, texts),
                "threshold": threshold,
                "zone": zone,
                "near": near,
            }
        )
        called = texts("combined") if head == FUSED else name
        ticks[called] = texts.percent(threshold)
        if zone is not None:
            zones[called] = texts.interval(*zone)
    line = texts("Decision threshold: positive from {where} on.", where=_join_values(ticks))
    if zones:
        line += " " + texts("Hatched, undetermined: {where}.", where=_join_values(zones))
    title = texts("Calibrated probability of {label}", label=texts(CLASS_TITLES[POSITIVE_CLASS]))
    return {"title": title, "rows": rows, "line": line}


def _list_heads(prediction: Prediction, texts: Texts) -> Iterator[tuple[str, str, BranchAnswer]]:
    """(head, its name, its answer) from top to bottom."""
    fused = BranchAnswer(prediction.label, prediction.probabilities, prediction.supported_probability)
    last = prediction.reason == DISAGREE  # small, below what each image says
    if len(prediction.modalities) > 1 and not last:
        yield FUSED, texts(HEAD_TITLES[FUSED]), fused
    for modality in MODALITIES:
        if modality in prediction.branches:  # one that was not given is none that is missing
            yield modality, texts(HEAD_TITLES[modality]), prediction.branches[modality]
    if last:
        yield FUSED, texts(HEAD_TITLES[FUSED]), fused


def _join_values(values: dict[str, str]) -> str:
    """`50 %` where all are the same, else `50 % (combined), 44 % (CT alone)`."""
    different = set(values.values())
    if len(different) == 1:
        return different.pop()
    return ", ".join(f"{value} ({name})" for name, value in values.items())


def _list_images(analysis: Analysis, texts: Texts) -> Iterator[dict[str, Any]]:
    """One panel per modality: the image as given, beside it below its heatmap, the lungs' outline over both."""
    prediction = analysis.prediction
    for modality in MODALITIES:
        if modality not in analysis.previews:
            continue
        title = texts(SLOT_TITLES[modality])
        outline = texts("{title}: outline of the lungs, and the part that was read", title=title)
        yield {
            "modality": modality,
            "title": title,
            "preview": analysis.previews[modality],
            "series": render_series(analysis, texts) if modality == "ct" else ("", ""),
            "slice": prediction.slice if modality == "ct" else None,
            "read_outline": draw_outlines(prediction, modality, outline),
            "outline": draw_outlines(prediction, modality),
            "map": prediction.heatmaps
            and describe_map(
                prediction.heatmaps.get(modality),
                title,
                prediction.heatmap_class,
                analysis.kind,
                texts,
                prediction.heat_location.get(modality),
                prediction.find_heat_cells(modality),
            ),
        }


def _list_checkpoint(prediction: Prediction, texts: Texts) -> dict[str, str]:
    info = prediction.checkpoint
    rows = {
        texts("Checkpoint"): info.name,
        texts("Network"): info.pair,
        texts("Trained"): info.trained_at[:10],
        texts("Trained on"): texts.sentence(info.trained_on),
        "SHA-256": f"{info.sha256[:12]}…" if len(info.sha256) > 12 else info.sha256,
    }
    if "total" in prediction.timing_ms:
        rows[texts("Answered in")] = f"{prediction.timing_ms['total']:.0f} ms"
    return rows
