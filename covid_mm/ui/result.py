"""A prediction as the page shows it: one HTML fragment, every text in it escaped.

Each state of the result panel is a function here: empty, answer, error. All begin with the same
hidden status line, so that a screen reader is told when it changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITIES, MODALITY_TITLES, POSITIVE, RESEARCH_USE
from covid_mm.serving.prediction import BranchAnswer, CheckpointInfo, Notice, Prediction
from covid_mm.ui.analysis import FUSED, SLOT_TITLES, Analysis
from covid_mm.ui.heatmaps import describe_map, render_choosers
from covid_mm.ui.operating import find_operating, render_operating
from covid_mm.ui.pictures import View, make_colour_bar
from covid_mm.ui.static import read_asset

POSITIVE_CLASS = CLASSES[POSITIVE]
SWAPPED_CODES = ("swapped_inputs", "modality_mismatch_", "wrong_modality_")  # mended by one click
NEAR_THRESHOLD = 0.005  # closer than a rounded percentage can tell apart


def render_empty() -> str:
    """What stands where the answer will be."""
    return _panel(
        "",
        f"""
<div class="mm-empty">
  {read_asset("lungs.svg")}
  <h2>No study analysed yet</h2>
  <p>Add a CT slice, a chest X-ray, or both of one patient. The answer, what each image says alone,
  and a map of the evidence appear here.</p>
</div>""",
    )


def render_error(sentence: str) -> str:
    """One sentence about what went wrong, in the place of the answer."""
    return _panel(
        "",
        f"""
<div class="mm-error" role="alert">
  <h2>No answer</h2>
  <p>{escape(sentence)}</p>
</div>""",
    )


def render_analysis(analysis: Analysis) -> str:
    """The whole answer: class, probabilities, notices, images with their evidence, checkpoint."""
    prediction = analysis.prediction
    views = "".join(
        _render_modality(analysis, modality, analysis.views[modality])
        for modality in MODALITIES
        if modality in analysis.views
    )
    choosers = render_choosers(prediction.heatmap_class) if prediction.heatmaps else ""
    return _panel(
        f"Answer: {_describe_answer(prediction)}.",
        f"""
{_render_answer(analysis)}
{_render_notices(prediction.warnings)}
<div class="mm-views">
  <div class="mm-views-head"><h2>Images and evidence</h2>
    <button type="button" class="mm-enlarge"><span>Enlarge</span><span>Make smaller</span></button></div>
  {choosers}
  {views}
</div>
{_render_checkpoint(prediction.checkpoint, prediction.timing_ms)}""",
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


def join_modalities(modalities: Iterable[str]) -> str:
    """`CT and X-ray`, or the one there is."""
    return " and ".join(MODALITY_TITLES[modality] for modality in modalities)


def count_studies(prediction: Prediction, head: str | None = None) -> int | None:
    """On how many studies a head was calibrated, the answering one without a name; None if unknown."""
    alone = prediction.modalities[0] if len(prediction.modalities) == 1 else FUSED
    return prediction.checkpoint.validation_studies.get(head or alone)


def _panel(status: str, body: str) -> str:
    return (
        f'<p class="mm-sr" role="status">{escape(status)}</p>'
        f'<p class="mm-banner">{read_asset("info.svg")}<span>{escape(RESEARCH_USE)}</span></p>'
        '<p class="mm-stale-note">The images have changed since this answer. Analyse again.</p>'
        '<p class="mm-unanswered-note">The server did not answer; it may be busy. Try again.</p>'
        f'<div class="mm-body">{body}</div>'
    )


def _describe_answer(prediction: Prediction) -> str:
    text = CLASS_TITLES[prediction.label]
    if prediction.probabilities:
        shown = format_probability(prediction.probabilities[prediction.label], count_studies(prediction))
        text += f", probability {shown}"
    return text


def _render_answer(analysis: Analysis) -> str:
    prediction, thresholds = analysis.prediction, analysis.thresholds
    used = join_modalities(prediction.modalities)
    alone = len(prediction.modalities) == 1
    source = f"from the {used} alone" if alone else f"from {used} together"
    figures = "".join(
        f'<div class="mm-figure" data-class="{name}"><dt>{escape(CLASS_TITLES[name])}</dt>'
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
        )
    return f"""
<section class="mm-answer" data-label="{escape(prediction.label)}" aria-label="Answer">
  <div class="mm-answer-head">
    <div>
      <p class="mm-kicker">Answer <span class="mm-source">{escape(source)}</span></p>
      <h2 class="mm-label">{escape(CLASS_TITLES[prediction.label])}</h2>
      {_render_agreement(prediction)}
    </div>
    {figures}
  </div>
  {_render_bars(prediction, thresholds)}
  {operating}
</section>"""


def _render_agreement(prediction: Prediction) -> str:
    """Whether the two images agree, in words."""
    if len(prediction.modalities) < 2 or not prediction.probabilities:
        return ""
    if prediction.has_warning("branches_disagree"):
        text = f"{read_asset('warning.svg')}<span>CT and X-ray disagree</span>"
        return f'<p class="mm-flag" data-flag="disagree">{text}</p>'
    labels = {answer.label for answer in prediction.branches.values()}
    if labels == {prediction.label}:
        return '<p class="mm-agree">CT and X-ray agree</p>'
    return f'<p class="mm-agree">CT and X-ray agree, but each alone says {escape(CLASS_TITLES[labels.pop()])}</p>'


def _render_bars(prediction: Prediction, thresholds: dict[str, float]) -> str:
    """One bar a head on the same scale, each with its own threshold as a tick."""
    rows, ticks = [], {}
    if prediction.probabilities and len(prediction.modalities) > 1:
        fused = BranchAnswer(prediction.label, prediction.probabilities)
        rows.append(_render_bar("Together", FUSED, fused, thresholds[FUSED], count_studies(prediction)))
        ticks["together"] = format_threshold(thresholds[FUSED])
    for modality in MODALITIES:
        name = f"{MODALITY_TITLES[modality]} alone"
        if answer := prediction.branches.get(modality):
            studies = count_studies(prediction, modality)
            rows.append(_render_bar(name, modality, answer, thresholds[modality], studies))
            ticks[name] = format_threshold(thresholds[modality])
        else:
            rows.append(_render_missing_bar(MODALITY_TITLES[modality], modality, "not given"))
    values = set(ticks.values())
    where = values.pop() if len(values) == 1 else ", ".join(f"{v} ({name})" for name, v in ticks.items())
    return f"""
<div class="mm-bars">
  <p class="mm-bars-title">Calibrated probability of {escape(CLASS_TITLES[POSITIVE_CLASS])}</p>
  <dl>{"".join(rows)}</dl>
  <p class="mm-threshold"><i aria-hidden="true"></i>Decision threshold: called positive from
  {escape(where)} on.</p>
</div>"""


def _render_bar(
    name: str, key: str, answer: BranchAnswer, threshold: float, studies: int | None = None
) -> str:
    if POSITIVE_CLASS not in answer.probabilities:
        return _render_missing_bar(name, key, "undetermined")
    value = answer.probabilities[POSITIVE_CLASS]
    near = ""
    if abs(value - threshold) < NEAR_THRESHOLD:
        near = ", just below the threshold" if value < threshold else ", just above the threshold"
    return f"""
<div class="mm-bar" data-branch="{key}" data-label="{escape(answer.label)}">
  <dt>{escape(name)}</dt>
  <dd class="mm-track" aria-hidden="true"><span class="mm-fill" style="width:{value * 100:.1f}%"></span>
    <i style="left:{threshold * 100:.1f}%"></i></dd>
  <dd class="mm-value"><b>{format_probability(value, studies)}</b>
    <span>{escape(CLASS_TITLES[answer.label])}{near}</span></dd>
</div>"""


def _render_missing_bar(name: str, key: str, reason: str) -> str:
    return (
        f'<div class="mm-bar mm-bar-none" data-branch="{key}"><dt>{escape(name)}</dt><dd>{reason}</dd></div>'
    )


def _render_notices(notices: tuple[Notice, ...]) -> str:
    if not notices:
        return ""
    icon = read_asset("warning.svg")
    items = "".join(
        f'<li data-code="{escape(notice.code)}">{icon}<span>{escape(notice.message)}</span></li>'
        for notice in notices
    )
    swap = ""
    if any(notice.code.startswith(SWAPPED_CODES) for notice in notices):
        swap = '<button type="button" class="mm-swap">Swap and analyse again</button>'
    return f'<ul class="mm-notices" aria-label="Notices">{items}</ul>{swap}'


def _render_modality(analysis: Analysis, modality: str, view: View) -> str:
    prediction, title = analysis.prediction, SLOT_TITLES[modality]
    shape = f'style="--ratio:{view.width}/{view.height}"'
    size = f'width="{view.width}" height="{view.height}"'
    image = f'<img src="{view.url}" {size} alt="{escape(title)}, as given">'
    if not prediction.heatmaps:
        return f"""
<section class="mm-view" data-modality="{modality}" aria-label="{escape(title)}">
  <h3>{escape(title)}</h3>
  <figure><div class="mm-frame"><div class="mm-stack" {shape}>{image}</div></div></figure>
</section>"""
    below = f'<img src="{view.url}" {size} alt="{escape(title)}, below its map">'
    shown = describe_map(prediction.heatmaps.get(modality), title, prediction.heatmap_class, analysis.kind)
    source = f'src="{shown["layer"]}"' if shown["layer"] else "hidden"
    return f"""
<section class="mm-view" data-modality="{modality}" aria-label="{escape(title)}">
  <h3>{escape(title)}</h3>
  <div class="mm-pair">
    <figure><div class="mm-frame"><div class="mm-stack" {shape}>{image}</div></div>
      <figcaption>Image</figcaption></figure>
    <figure><div class="mm-frame"><div class="mm-stack" {shape}>{below}
      <img class="mm-layer" {source} alt="{escape(shown["alt"] or "")}">
      <p class="mm-none"{" hidden" if not shown["none"] else ""}>{escape(shown["none"] or "")}</p></div></div>
      <figcaption class="mm-map-caption">{escape(shown["caption"] or "")}</figcaption></figure>
  </div>
  <div class="mm-scale">
    <span>0</span><img src="{make_colour_bar()}" alt="Colour scale, from 0 dark to 1 bright"><span>1</span>
    <small>{escape(shown["legend"] or "")}</small>
  </div>
  <button type="button" class="mm-download" data-modality="{modality}"{" hidden" if not shown["layer"] else ""}>Download
    this map<span class="mm-sr"> of the {escape(title)}, at the image's own resolution</span></button>
</section>"""


def _render_checkpoint(info: CheckpointInfo, timing_ms: dict[str, float]) -> str:
    rows = {
        "Checkpoint": info.name,
        "Network": info.pair,
        "Trained": info.trained_at[:10],
        "Trained on": info.trained_on,
        "SHA-256": f"{info.sha256[:12]}…" if len(info.sha256) > 12 else info.sha256,
    }
    if "total" in timing_ms:
        rows["Answered in"] = f"{timing_ms['total']:.0f} ms"
    items = "".join(
        f"<div><dt>{key}</dt><dd>{escape(value)}</dd></div>" for key, value in rows.items() if value
    )
    return f'<dl class="mm-checkpoint">{items}</dl>'
