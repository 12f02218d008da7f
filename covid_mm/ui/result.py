"""A prediction as the page shows it: one HTML fragment, every text in it escaped.

Each state of the result panel is a function here: empty, answer, error. All begin with the same
hidden status line, so that a screen reader is told when it changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITIES, MODALITY_TITLES, POSITIVE, RESEARCH_USE
from covid_mm.serving.prediction import BranchAnswer, CheckpointInfo, Prediction
from covid_mm.ui.analysis import FUSED, SLOT_TITLES, Analysis
from covid_mm.ui.heatmaps import describe_map, render_choosers
from covid_mm.ui.language import ENGLISH, Texts
from covid_mm.ui.notices import word_notice
from covid_mm.ui.operating import find_operating, render_operating
from covid_mm.ui.pictures import View, make_colour_bar
from covid_mm.ui.static import read_asset

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
  {read_asset("lungs.svg")}
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
    """The whole answer: class, probabilities, notices, images with their evidence, checkpoint."""
    prediction = analysis.prediction
    views = "".join(
        _render_modality(analysis, modality, analysis.views[modality], texts)
        for modality in MODALITIES
        if modality in analysis.views
    )
    choosers = render_choosers(prediction.heatmap_class, texts) if prediction.heatmaps else ""
    return _panel(
        texts("Answer: {answer}.", answer=_describe_answer(prediction, texts)),
        texts,
        f"""
{_render_answer(analysis, texts)}
{_render_notices(prediction, texts)}
<div class="mm-views">
  <div class="mm-views-head"><h2>{texts("Images and evidence")}</h2>
    <button type="button" class="mm-enlarge"><span>{texts("Enlarge")}</span>
      <span>{texts("Make smaller")}</span></button></div>
  {choosers}
  {views}
</div>
{_render_checkpoint(prediction.checkpoint, prediction.timing_ms, texts)}""",
    )


def format_probability(value: float, studies: int | None = None) -> str:
    """A probability in percent, no more exact and no more certain than its calibration supports.

    studies: how many it was calibrated on. From 400 on whole percents are shown, from 60 on steps
    of 5, below steps of 10; and never 0 % or 100 %, but less or more than the last step. Without
    `studies` whole percents.
    """
    step = 1 if studies is None or studies >= 400 else 5 if studies >= 60 else 10
    if value * 100 > 100 - step:
        return f"> {100 - step} %"
    if value * 100 < step:
        return f"< {step} %"
    return f"{step * round(value * 100 / step)} %"


def format_threshold(value: float) -> str:
    """The decision threshold in percent, with one decimal where it has one."""
    percent = f"{value * 100:.1f}"
    return f"{percent.removesuffix('.0')} %"


def join_modalities(modalities: Iterable[str], texts: Texts = ENGLISH) -> str:
    """`CT and X-ray`, or the one there is."""
    return texts(" and ").join(texts(MODALITY_TITLES[modality]) for modality in modalities)


def count_studies(prediction: Prediction, head: str | None = None) -> int | None:
    """On how many studies a head was calibrated, the answering one without a name; None if unknown."""
    alone = prediction.modalities[0] if len(prediction.modalities) == 1 else FUSED
    return prediction.checkpoint.validation_studies.get(head or alone)


def _panel(status: str, texts: Texts, body: str) -> str:
    return (
        f'<p class="mm-sr" role="status">{escape(status)}</p>'
        f'<p class="mm-banner">{read_asset("info.svg")}<span>{escape(texts(RESEARCH_USE))}</span></p>'
        f'<p class="mm-stale-note">{texts("The images have changed since this answer. Analyse again.")}</p>'
        f'<p class="mm-unanswered-note">{texts("The server did not answer; it may be busy. Try again.")}</p>'
        f'<div class="mm-body">{body}</div>'
    )


def _describe_answer(prediction: Prediction, texts: Texts) -> str:
    text = texts(CLASS_TITLES[prediction.label])
    if prediction.probabilities:
        shown = format_probability(prediction.probabilities[prediction.label], count_studies(prediction))
        text += texts(", probability {shown}", shown=shown)
    return text


def _render_answer(analysis: Analysis, texts: Texts) -> str:
    prediction, thresholds = analysis.prediction, analysis.thresholds
    used = join_modalities(prediction.modalities, texts)
    alone = len(prediction.modalities) == 1
    source = texts("from the {used} alone" if alone else "from {used} together", used=used)
    source = f' <span class="mm-source">{escape(source)}</span>' if prediction.probabilities else ""
    figures = "".join(
        f'<div class="mm-figure" data-class="{name}"><dt>{escape(texts(CLASS_TITLES[name]))}</dt>'
        f"<dd>{format_probability(prediction.probabilities[name], count_studies(prediction))}</dd></div>"
        for name in CLASSES
        if name in prediction.probabilities
    )
    figures = f'<dl class="mm-figures">{figures}</dl>' if figures else ""
    operating = ""
    if prediction.probabilities:
        threshold = thresholds[analysis.head]
        operating = render_operating(
            find_operating(analysis.meta, analysis.head, threshold),
            threshold,
            prediction.probabilities[POSITIVE_CLASS],
            texts,
        )
    return f"""
<section class="mm-answer" data-label="{escape(prediction.label)}" aria-label="{texts("Answer")}">
  <div class="mm-answer-head">
    <div>
      <p class="mm-kicker">{texts("Answer")}{source}</p>
      <h2 class="mm-label">{escape(texts(CLASS_TITLES[prediction.label]))}</h2>
      {_render_agreement(prediction, texts)}
    </div>
    {figures}
  </div>
  {_render_bars(prediction, thresholds, texts)}
  {operating}
</section>"""


def _render_agreement(prediction: Prediction, texts: Texts) -> str:
    """Whether the two images agree, in words."""
    if len(prediction.modalities) < 2 or not prediction.probabilities:
        return ""
    if prediction.has_warning("branches_disagree"):
        text = f"{read_asset('warning.svg')}<span>{texts('CT and X-ray disagree')}</span>"
        return f'<p class="mm-flag" data-flag="disagree">{text}</p>'
    labels = {answer.label for answer in prediction.branches.values()}
    if labels == {prediction.label}:
        return f'<p class="mm-agree">{texts("CT and X-ray agree")}</p>'
    said = texts("CT and X-ray agree, but each alone says {label}", label=texts(CLASS_TITLES[labels.pop()]))
    return f'<p class="mm-agree">{escape(said)}</p>'


def _render_bars(prediction: Prediction, thresholds: dict[str, float], texts: Texts) -> str:
    """One bar a head on the same scale, each with its own threshold as a tick; none without an answer."""
    if not prediction.probabilities:
        return ""
    rows, ticks = [], {}
    if len(prediction.modalities) > 1:
        fused = BranchAnswer(prediction.label, prediction.probabilities)
        studies = count_studies(prediction)
        rows.append(_render_bar(texts("Together"), FUSED, fused, thresholds[FUSED], texts, studies))
        ticks[texts("together")] = format_threshold(thresholds[FUSED])
    for modality in MODALITIES:
        name = texts(f"{MODALITY_TITLES[modality]} alone")
        if answer := prediction.branches.get(modality):
            studies = count_studies(prediction, modality)
            rows.append(_render_bar(name, modality, answer, thresholds[modality], texts, studies))
            ticks[name] = format_threshold(thresholds[modality])
        else:
            rows.append(
                _render_missing_bar(texts.title(MODALITY_TITLES[modality]), modality, texts("not given"))
            )
    values = set(ticks.values())
    where = values.pop() if len(values) == 1 else ", ".join(f"{v} ({name})" for name, v in ticks.items())
    title = texts("Calibrated probability of {label}", label=texts(CLASS_TITLES[POSITIVE_CLASS]))
    line = texts("Decision threshold: called positive from {where} on.", where=where)
    return f"""
<div class="mm-bars">
  <p class="mm-bars-title">{escape(title)}</p>
  <dl>{"".join(rows)}</dl>
  <p class="mm-threshold"><i aria-hidden="true"></i>{escape(line)}</p>
</div>"""


def _render_bar(
    name: str, key: str, answer: BranchAnswer, threshold: float, texts: Texts, studies: int | None = None
) -> str:
    value = answer.probabilities[POSITIVE_CLASS]
    near = ""
    if abs(value - threshold) < NEAR_THRESHOLD:
        near = texts(", just below the threshold" if value < threshold else ", just above the threshold")
    return f"""
<div class="mm-bar" data-branch="{key}" data-label="{escape(answer.label)}">
  <dt>{escape(name)}</dt>
  <dd class="mm-track" aria-hidden="true"><span class="mm-fill" style="width:{value * 100:.1f}%"></span>
    <i style="left:{threshold * 100:.1f}%"></i></dd>
  <dd class="mm-value"><b>{format_probability(value, studies)}</b>
    <span>{escape(texts(CLASS_TITLES[answer.label]))}{near}</span></dd>
</div>"""


def _render_missing_bar(name: str, key: str, reason: str) -> str:
    return (
        f'<div class="mm-bar mm-bar-none" data-branch="{key}"><dt>{escape(name)}</dt><dd>{reason}</dd></div>'
    )


def _render_notices(prediction: Prediction, texts: Texts) -> str:
    notices = prediction.warnings
    if not notices:
        return ""
    icon = read_asset("warning.svg")
    items = "".join(
        f'<li data-code="{escape(notice.code)}">{icon}'
        f"<span>{escape(word_notice(notice, prediction, texts))}</span></li>"
        for notice in notices
    )
    swap = ""
    if any(notice.code.startswith(SWAPPED_CODES) for notice in notices):
        swap = f'<button type="button" class="mm-swap">{texts("Swap and analyse again")}</button>'
    return f'<ul class="mm-notices" aria-label="{texts("Notices")}">{items}</ul>{swap}'


def _render_modality(analysis: Analysis, modality: str, view: View, texts: Texts) -> str:
    prediction, title = analysis.prediction, texts(SLOT_TITLES[modality])
    shape = f'style="--ratio:{view.width}/{view.height}"'
    size = f'width="{view.width}" height="{view.height}"'
    image = f'<img src="{view.url}" {size} alt="{escape(texts("{title}, as given", title=title))}">'
    if not prediction.heatmaps:
        return f"""
<section class="mm-view" data-modality="{modality}" aria-label="{escape(title)}">
  <h3>{escape(title)}</h3>
  <figure><div class="mm-frame"><div class="mm-stack" {shape}>{image}</div></div></figure>
</section>"""
    below = f'<img src="{view.url}" {size} alt="{escape(texts("{title}, below its map", title=title))}">'
    shown = describe_map(
        prediction.heatmaps.get(modality), title, prediction.heatmap_class, analysis.kind, texts
    )
    whole = texts("of the {title}, at the image's own resolution", title=title)
    source = f'src="{shown["layer"]}"' if shown["layer"] else "hidden"
    return f"""
<section class="mm-view" data-modality="{modality}" aria-label="{escape(title)}">
  <h3>{escape(title)}</h3>
  <div class="mm-pair">
    <figure><div class="mm-frame"><div class="mm-stack" {shape}>{image}</div></div>
      <figcaption>{texts("Image")}</figcaption></figure>
    <figure><div class="mm-frame"><div class="mm-stack" {shape}>{below}
      <img class="mm-layer" {source} alt="{escape(shown["alt"] or "")}">
      <p class="mm-none"{" hidden" if not shown["none"] else ""}>{escape(shown["none"] or "")}</p></div></div>
      <figcaption class="mm-map-caption">{escape(shown["caption"] or "")}</figcaption></figure>
  </div>
  <div class="mm-scale">
    <span>0</span><img src="{make_colour_bar()}" alt="{texts("Colour scale, from 0 dark to 1 bright")}"><span>1</span>
    <small>{escape(shown["legend"] or "")}</small>
  </div>
  <button type="button" class="mm-download" data-modality="{modality}"
    {"" if shown["layer"] else "hidden"}>{texts("Download this map")}<span
    class="mm-sr"> {escape(whole)}</span></button>
</section>"""


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
