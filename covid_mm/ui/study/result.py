"""A prediction as the page shows it: one HTML fragment, every text in it escaped.

Each state of the result panel is a function here: empty, answer, error. All begin with the same
hidden status line, so that a screen reader is told when it changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITIES, MODALITY_TITLES, POSITIVE, RESEARCH_USE
from covid_mm.serving.prediction import UNDETERMINED, BranchAnswer, CheckpointInfo, Prediction
from covid_mm.serving.warnings import format_percent
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.study.analysis import FUSED, Analysis
from covid_mm.ui.study.evidence import (
    HEAD_TITLES,
    INDEPENDENT,
    OTHER_DISEASES,
    describe_evidence,
    format_probability,
    read_zone,
)
from covid_mm.ui.study.operating_point import find_left_out, render_operating
from covid_mm.ui.study.result_images import render_images
from covid_mm.ui.study.warnings import find_reasons, list_warnings, word_reason, word_warning
from covid_mm.ui.templates import read_icon

POSITIVE_CLASS = CLASSES[POSITIVE]
SWAPPED_CODES = ("swapped_inputs", "modality_mismatch_", "wrong_modality_")  # mended by one click
EMPTY = (
    "Add a CT slice, a chest X-ray, or both of one patient. The answer, what each image says alone,"
    " and a map of the evidence appear here."
)
NEAR_THRESHOLD = 0.005  # closer than a rounded percentage can tell apart


def render_empty(texts: Texts = ENGLISH) -> str:
    """What stands where the answer will be."""
    return _panel(
        "",
        texts,
        f"""
<div class="mm-empty">
  {read_icon("lungs")}
  <h2>{texts("No study analysed yet")}</h2>
  <p>{texts(EMPTY)}</p>
</div>""",
    )


def render_error(sentence: str, texts: Texts = ENGLISH) -> str:
    """One sentence about what went wrong, in the place of the answer."""
    return _panel(
        "",
        texts,
        f"""
<div class="mm-error" role="alert">
  <h2>{texts("No answer")}</h2>
  <p>{escape(sentence)}</p>
</div>""",
    )


def render_analysis(analysis: Analysis, texts: Texts = ENGLISH) -> str:
    """The whole answer: class, probabilities, left-out evidence, warnings, images with maps, checkpoint."""
    prediction = analysis.prediction
    return _panel(
        texts("Answer: {answer}.", answer=_describe_answer(prediction, texts)),
        texts,
        f"""
{_render_answer(analysis, texts)}
{_render_warnings(prediction, texts)}
{render_images(analysis, texts)}
{_render_checkpoint(prediction.checkpoint, prediction.timing_ms, texts)}""",
    )


def join_modalities(modalities: Iterable[str], texts: Texts = ENGLISH) -> str:
    """`CT and X-ray`, or the one there is."""
    return texts(" and ").join(texts(MODALITY_TITLES[modality]) for modality in modalities)


def _panel(status: str, texts: Texts, body: str) -> str:
    return (
        f'<p class="mm-sr" role="status">{escape(status)}</p>'
        f'<p class="mm-banner">{read_icon("info")}<span>{escape(texts(RESEARCH_USE))}</span></p>'
        f'<p class="mm-stale-note">{texts("The images have changed since this answer. Analyse again.")}</p>'
        f'<p class="mm-unanswered-note">{texts("The server did not answer; it may be busy. Try again.")}</p>'
        f'<div class="mm-body">{body}</div>'
    )


def _describe_answer(prediction: Prediction, texts: Texts) -> str:
    text = texts(CLASS_TITLES[prediction.label])
    if prediction.label in prediction.probabilities:
        value = prediction.probabilities[prediction.label]
        shown = format_probability(value, prediction.supported_probability, texts)
        text += texts(", probability {shown}", shown=shown)
    return text


def _render_answer(analysis: Analysis, texts: Texts) -> str:
    prediction = analysis.prediction
    used = join_modalities(prediction.modalities, texts)
    alone = len(prediction.modalities) == 1
    source = texts("from the {used} alone" if alone else "from {used} combined", used=used)
    source = f' <span class="mm-source">{escape(source)}</span>' if prediction.probabilities else ""
    kind = ' data-abstains="true"' if prediction.probabilities and prediction.label == UNDETERMINED else ""
    return f"""
<section class="mm-answer" data-label="{escape(prediction.label)}"{kind} aria-label="{texts.attribute("Answer")}">
  <div class="mm-answer-head">
    <div>
      <p class="mm-kicker">{texts("Answer")}{source}</p>
      <h2 class="mm-label">{escape(texts(CLASS_TITLES[prediction.label]))}</h2>
      {_render_reasons(prediction, texts)}
      {_render_agreement(prediction, texts)}
    </div>
    {_render_figures(prediction, texts)}
  </div>
  {_render_evidence(prediction, texts)}
  {_render_bars(analysis, texts)}
  {_render_operating(analysis, texts)}
</section>"""


def _render_figures(prediction: Prediction, texts: Texts) -> str:
    """The probabilities in large figures; none where neither class is named."""
    if prediction.label not in prediction.probabilities:
        return ""
    supported = prediction.supported_probability
    figures = "".join(
        f'<div class="mm-figure" data-class="{name}"><dt>{escape(texts(CLASS_TITLES[name]))}</dt>'
        f"<dd>{format_probability(prediction.probabilities[name], supported, texts)}</dd></div>"
        for name in CLASSES
    )
    return f'<dl class="mm-figures">{figures}</dl>'


def _render_reasons(prediction: Prediction, texts: Texts) -> str:
    """Why the study is undetermined, a sentence for each reason."""
    return "".join(
        f'<p class="mm-reason" data-reason="{escape(notice.code)}">{escape(word_reason(notice, texts))}</p>'
        for notice in find_reasons(prediction)
    )


def _render_evidence(prediction: Prediction, texts: Texts) -> str:
    """What the probability is worth where the network was never trained; nothing without a probability."""
    if not prediction.probabilities:
        return ""
    known = "true" if prediction.evidence else "false"
    sentence = escape(describe_evidence(prediction.evidence, texts))
    notes = ""
    if prediction.label == CLASSES[POSITIVE]:
        notes += f'<p class="mm-other-diseases">{escape(texts(OTHER_DISEASES))}</p>'
    if len(prediction.modalities) > 1:
        notes += f'<p class="mm-independent">{escape(texts(INDEPENDENT))}</p>'
    return f'<div class="mm-evidence" data-measured="{known}"><p>{sentence}</p>{notes}</div>'


def _render_operating(analysis: Analysis, texts: Texts) -> str:
    """Other thresholds on left-out images; nothing where those were not kept."""
    probabilities = analysis.prediction.probabilities
    if not probabilities or analysis.prediction.evidence is None:
        return ""
    threshold = analysis.thresholds[analysis.head]
    operating = find_left_out(analysis.meta, analysis.head)
    return render_operating(operating, threshold, texts, probabilities[POSITIVE_CLASS])


def _render_agreement(prediction: Prediction, texts: Texts) -> str:
    """Whether the two images agree, in words."""
    if len(prediction.modalities) < 2 or not prediction.probabilities:
        return ""
    labels = {answer.label for answer in prediction.branches.values()}
    if prediction.has_warning("branches_disagree"):
        text = f"{read_icon('warning')}<span>{texts('CT and X-ray disagree')}</span>"
        return f'<p class="mm-flag" data-flag="disagree">{text}</p>'
    if len(labels) > 1 or UNDETERMINED in labels:
        return ""  # one of them abstains, as its bar says
    if labels == {prediction.label}:
        return f'<p class="mm-agree">{texts("CT and X-ray agree")}</p>'
    said = texts("CT and X-ray agree, but each alone says {label}", label=texts(CLASS_TITLES[labels.pop()]))
    return f'<p class="mm-agree">{escape(said)}</p>'


def _render_bars(analysis: Analysis, texts: Texts) -> str:
    """One bar per head on the same scale, each with its own threshold and abstain zone; none without an answer."""
    prediction, thresholds = analysis.prediction, analysis.thresholds
    if not prediction.probabilities:
        return ""
    rows, ticks, zones = [], {}, {}
    for head, name, answer in _list_bars(prediction, texts):
        if answer is None:
            rows.append(_render_missing_bar(name, head, texts("not given")))
            continue
        zone = prediction.abstain_zone if head == analysis.head else read_zone(analysis.meta, head)
        rows.append(_render_bar(name, head, answer, thresholds[head], zone, texts))
        said = texts("combined") if head == FUSED else name
        ticks[said] = format_percent(thresholds[head])
        if zone is not None:
            zones[said] = texts("{low} to {high}", low=format_percent(zone[0]), high=format_percent(zone[1]))
    title = texts("Calibrated probability of {label}", label=texts(CLASS_TITLES[POSITIVE_CLASS]))
    line = texts("Decision threshold: positive from {where} on.", where=_join_values(ticks))
    if zones:
        line += " " + texts("Hatched, undetermined: {where}.", where=_join_values(zones))
    return f"""
<div class="mm-bars">
  <p class="mm-bars-title">{escape(title)}</p>
  <dl>{"".join(rows)}</dl>
  <p class="mm-threshold"><i aria-hidden="true"></i><span>{escape(line)}</span></p>
</div>"""


def _list_bars(prediction: Prediction, texts: Texts) -> Iterable[tuple[str, str, BranchAnswer | None]]:
    """(head, its name, what it says) from top to bottom; None for an image that was not given."""
    supported = prediction.supported_probability
    if len(prediction.modalities) > 1:
        yield (
            FUSED,
            texts(HEAD_TITLES[FUSED]),
            BranchAnswer(prediction.label, prediction.probabilities, supported),
        )
    for modality in MODALITIES:
        if answer := prediction.branches.get(modality):
            yield modality, texts(HEAD_TITLES[modality]), answer
        else:
            yield modality, texts.title(MODALITY_TITLES[modality]), None


def _join_values(values: dict[str, str]) -> str:
    """`50 %` where all are the same, else `50 % (together), 44 % (CT alone)`."""
    different = set(values.values())
    if len(different) == 1:
        return different.pop()
    return ", ".join(f"{value} ({name})" for name, value in values.items())


def _render_bar(
    name: str,
    key: str,
    answer: BranchAnswer,
    threshold: float,
    zone: tuple[float, float] | None,
    texts: Texts,
) -> str:
    value = answer.probabilities[POSITIVE_CLASS]
    near, hatched = "", ""
    if answer.label != UNDETERMINED and abs(value - threshold) < NEAR_THRESHOLD:
        near = texts(", just below the threshold" if value < threshold else ", just above the threshold")
    if zone is not None:
        low, high = (100 * bound for bound in zone)
        hatched = f'<span class="mm-zone" style="left:{low:.1f}%;width:{high - low:.1f}%"></span>'
    return f"""
<div class="mm-bar" data-branch="{key}" data-label="{escape(answer.label)}">
  <dt>{escape(name)}</dt>
  <dd class="mm-track" aria-hidden="true"><span class="mm-fill" style="width:{value * 100:.1f}%"></span>{hatched}
    <i style="left:{threshold * 100:.1f}%"></i></dd>
  <dd class="mm-value"><b>{format_probability(value, answer.supported_probability, texts)}</b>
    <span>{escape(texts(CLASS_TITLES[answer.label]))}{near}</span></dd>
</div>"""


def _render_missing_bar(name: str, key: str, reason: str) -> str:
    return (
        f'<div class="mm-bar mm-bar-none" data-branch="{key}"><dt>{escape(name)}</dt><dd>{reason}</dd></div>'
    )


def _render_warnings(prediction: Prediction, texts: Texts) -> str:
    warnings = list_warnings(prediction)
    if not warnings:
        return ""
    icon = read_icon("warning")
    items = "".join(
        f'<li data-code="{escape(notice.code)}">{icon}<span>{escape(word_warning(notice, texts))}</span></li>'
        for notice in warnings
    )
    swap = ""
    if any(notice.code.startswith(SWAPPED_CODES) for notice in warnings):
        swap = f'<button type="button" class="mm-swap">{texts("Swap and analyse again")}</button>'
    return f'<ul class="mm-warnings" aria-label="{texts.attribute("Warnings")}">{items}</ul>{swap}'


def _render_checkpoint(info: CheckpointInfo, timing_ms: dict[str, float], texts: Texts) -> str:
    rows = {
        texts("Checkpoint"): info.name,
        texts("Network"): info.pair,
        texts("Trained"): info.trained_at[:10],
        texts("Trained on"): texts.sentence(info.trained_on),
        "SHA-256": f"{info.sha256[:12]}…" if len(info.sha256) > 12 else info.sha256,
    }
    if "total" in timing_ms:
        rows[texts("Answered in")] = f"{timing_ms['total']:.0f} ms"
    items = "".join(
        f"<div><dt>{key}</dt><dd>{escape(value)}</dd></div>" for key, value in rows.items() if value
    )
    return f'<dl class="mm-checkpoint">{items}</dl>'
