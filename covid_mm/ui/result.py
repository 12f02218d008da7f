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
from covid_mm.ui.pictures import View, make_colour_bar, make_heat_layer
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
        _render_modality(prediction, modality, analysis.views[modality])
        for modality in MODALITIES
        if modality in analysis.views
    )
    return _panel(
        f"Answer: {_describe_answer(prediction)}.",
        f"""
{_render_answer(prediction, analysis.thresholds)}
{_render_notices(prediction.warnings)}
<div class="mm-views">
  <div class="mm-views-head"><h2>Images and evidence</h2>
    <button type="button" class="mm-enlarge"><span>Enlarge</span><span>Make smaller</span></button></div>
  {views}
</div>
{_render_checkpoint(prediction.checkpoint, prediction.timing_ms)}""",
    )


def format_probability(value: float) -> str:
    """A probability in whole percent, never as certain as 0 % or 100 %."""
    if value > 0.99:
        return "> 99 %"
    if value < 0.01:
        return "< 1 %"
    return f"{value * 100:.0f} %"


def format_threshold(value: float) -> str:
    """The decision threshold in percent, with one decimal where it has one."""
    percent = f"{value * 100:.1f}"
    return f"{percent.removesuffix('.0')} %"


def join_modalities(modalities: Iterable[str]) -> str:
    """`CT and X-ray`, or the one there is."""
    return " and ".join(MODALITY_TITLES[modality] for modality in modalities)


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
        text += f", probability {format_probability(prediction.probabilities[prediction.label])}"
    return text


def _render_answer(prediction: Prediction, thresholds: dict[str, float]) -> str:
    used = join_modalities(prediction.modalities)
    alone = len(prediction.modalities) == 1
    source = f"from the {used} alone" if alone else f"from {used} together"
    figures = "".join(
        f'<div class="mm-figure" data-class="{name}"><dt>{escape(CLASS_TITLES[name])}</dt>'
        f"<dd>{format_probability(prediction.probabilities[name])}</dd></div>"
        for name in CLASSES
        if name in prediction.probabilities
    )
    figures = f'<dl class="mm-figures">{figures}</dl>' if figures else ""
    disagreement = ""
    if prediction.has_warning("branches_disagree"):
        text = f"{read_asset('warning.svg')}<span>CT and X-ray disagree</span>"
        disagreement = f'<p class="mm-flag" data-flag="disagree">{text}</p>'
    return f"""
<section class="mm-answer" data-label="{escape(prediction.label)}" aria-label="Answer">
  <div class="mm-answer-head">
    <div>
      <p class="mm-kicker">Answer <span class="mm-source">{escape(source)}</span></p>
      <h2 class="mm-label">{escape(CLASS_TITLES[prediction.label])}</h2>
      {disagreement}
    </div>
    {figures}
  </div>
  {_render_bars(prediction, thresholds)}
</section>"""


def _render_bars(prediction: Prediction, thresholds: dict[str, float]) -> str:
    """One bar a head on the same scale, each with its own threshold as a tick."""
    rows, ticks = [], {}
    if prediction.probabilities and len(prediction.modalities) > 1:
        fused = BranchAnswer(prediction.label, prediction.probabilities)
        rows.append(_render_bar("Together", FUSED, fused, thresholds[FUSED]))
        ticks["together"] = format_threshold(thresholds[FUSED])
    for modality in MODALITIES:
        name = f"{MODALITY_TITLES[modality]} alone"
        if answer := prediction.branches.get(modality):
            rows.append(_render_bar(name, modality, answer, thresholds[modality]))
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


def _render_bar(name: str, key: str, answer: BranchAnswer, threshold: float) -> str:
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
  <dd class="mm-value"><b>{format_probability(value)}</b>
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


def _render_modality(prediction: Prediction, modality: str, view: View) -> str:
    title = SLOT_TITLES[modality]
    target = CLASS_TITLES[prediction.heatmap_class]
    heatmap = prediction.heatmaps.get(modality)
    shape = f'style="--ratio:{view.width}/{view.height}"'
    size = f'width="{view.width}" height="{view.height}"'
    image = f'<img src="{view.url}" {size} alt="{escape(title)}, as given">'
    below = f'<img src="{view.url}" {size} alt="{escape(title)}, below its map">'
    highest = ""
    if heatmap is None:
        layer = '<p class="mm-none">No map</p>'
    elif heatmap.any() and not prediction.has_warning(f"no_positive_evidence_{modality}"):
        highest = f", highest {float(heatmap.max()):.2f}"
        alt = f"Evidence for {target} on the {title}{highest} of 1"
        layer = f'<img class="mm-layer" src="{make_heat_layer(heatmap)}" alt="{escape(alt)}">'
    else:
        layer = f'<p class="mm-none">No positive evidence for {escape(target)}</p>'
    return f"""
<section class="mm-view" data-modality="{modality}" aria-label="{escape(title)}">
  <h3>{escape(title)}</h3>
  <div class="mm-pair">
    <figure><div class="mm-frame"><div class="mm-stack" {shape}>{image}</div></div>
      <figcaption>Image</figcaption></figure>
    <figure><div class="mm-frame"><div class="mm-stack" {shape}>{below}{layer}</div></div>
      <figcaption>Grad-CAM{highest}</figcaption></figure>
  </div>
  <div class="mm-scale">
    <span>0</span><img src="{make_colour_bar()}" alt="Colour scale, from 0 dark to 1 bright"><span>1</span>
    <small>positive evidence for {escape(target)}, fixed scale</small>
  </div>
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
