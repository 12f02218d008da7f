"""The Model tab: the served checkpoint's card, drawn from its meta.json and from results/."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITY_TITLES, POSITIVE, RESEARCH_USE
from covid_mm.errors import CovidMMError
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.model.left_out import render_heat_location, render_independence, render_left_out
from covid_mm.ui.model.roc_chart import draw_roc
from covid_mm.ui.model.sections import (
    format_share,
    read_networks,
    render_collections,
    render_content_check,
    render_networks,
    render_refusals,
    render_section,
    render_shortcuts,
    render_table,
)
from covid_mm.ui.predictors import PredictorLoader
from covid_mm.ui.study.evidence import HEAD_TITLES
from covid_mm.ui.study.operating_point import find_operating, render_operating

POSITIVE_TITLE = CLASS_TITLES[CLASSES[POSITIVE]]
POSSIBILITY_TITLES = {
    "both_negative": "both normal",
    "both_positive": "both positive",
    "ct_positive_xray_negative": "CT positive, X-ray normal",
    "ct_negative_xray_positive": "CT normal, X-ray positive",
}
SPLITS = {
    "paper": "Random split, as in the paper: images of one patient lie on both sides. This data leakage"
    " makes every figure too good.",
    "grouped": "Grouped split: no patient and no cluster of like slices on both sides.",
}
INSIDE = (
    "The figures from here to the four possibilities are of validation images of the training collections, split off"
    " as said under Data. They say how well the collections were learned, not what the answer is worth elsewhere."
)
TUNED_INSIDE = "Temperature and best epoch were chosen on these same images; the threshold was not tuned."
TUNED_OUTSIDE = "Temperature and threshold were chosen on left-out collections, not on these images."
TOGETHER, BY_CT, BY_XRAY = "Predicted {label}, combined", "by the CT alone", "by the X-ray alone"


def render_waiting(texts: Texts = ENGLISH) -> str:
    """What stands where the card will be."""
    text = texts("The network is loading; its card appears here.")
    return f'<p class="mm-card-wait" role="status">{text}</p>'


def render_loaded(loader: PredictorLoader, texts: Texts = ENGLISH) -> str:
    """The card of the loaded network, or one sentence where it could not be loaded."""
    try:
        predictor = loader.get()
    except (CovidMMError, RuntimeError) as error:
        return f'<p class="mm-card-wait" role="alert">{escape(texts.sentence(str(error)))}</p>'
    try:
        networks = () if predictor.meta.get("synthetic") else read_networks()
        return render_model_card(predictor.meta, predictor.info.name, texts, networks)
    except (KeyError, TypeError, ValueError, AttributeError):  # the network answers all the same
        lacking = texts("The meta.json of this checkpoint lacks what its card shows.")
        return f'<p class="mm-card-wait" role="alert">{lacking}</p>'


def render_model_card(
    meta: Mapping[str, Any],
    name: str,
    texts: Texts = ENGLISH,
    networks: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The card as HTML; sections whose fields are lacking are left out.

    meta: the object of meta.json. networks: those of results.json, as `read_networks` gives them.
    """
    metrics = meta.get("metrics", {}).get("validation", {})
    sections = [
        _render_intro(meta, name, texts),
        render_section(
            texts("On hospitals and scanners never seen in training"),
            "" if not meta else render_left_out(meta, texts),
        ),
        render_section(texts("Where its heatmaps point"), render_heat_location(meta, texts)),
        render_section(texts("Two images as independent evidence"), render_independence(meta, texts)),
        render_section(texts("Data"), _render_data(meta, texts)),
        render_section(texts("Images that get no answer"), render_refusals(meta.get("refusals", ()), texts)),
        render_section(texts("Shortcuts"), render_shortcuts(meta.get("left_out") or {}, texts)),
        render_section(texts("Measured inside the training collections"), _render_inside(metrics, texts)),
        render_section(texts("Confusion matrices"), _render_confusion(metrics, texts)),
        render_section(texts("Other thresholds"), _render_thresholds(meta, texts)),
        render_section(texts("ROC curves"), draw_roc(meta.get("operating_points", {}), HEAD_TITLES, texts)),
        render_section(texts("Calibration"), _render_calibration(meta, metrics, texts)),
        render_section(
            texts("The four possibilities"), _render_possibilities(meta.get("possibilities", ()), texts)
        ),
        render_section(texts("The content check"), render_content_check(meta.get("judge"), texts)),
        *(
            render_section(texts.sentence(c["title"]), _render_comparison(c, texts))
            for c in meta.get("comparisons", ())
        ),
        render_section(texts("The paper's nine networks"), render_networks(networks, texts)),
        render_section(texts("Limits"), _render_limits(meta, texts)),
        render_section(texts("How to train it again"), _render_commands(meta)),
    ]
    return f'<article class="mm-card">{"".join(sections)}</article>'


def _render_intro(meta: Mapping[str, Any], name: str, texts: Texts) -> str:
    phantoms = texts("Trained on synthetic phantoms, not on patients: it means nothing for a person.")
    synthetic = f"<p><b>{phantoms}</b></p>" if meta.get("synthetic") else ""
    sha256 = meta.get("weights", {}).get("sha256", "")
    rows = {
        "Checkpoint": name,
        "Network": meta.get("pair", ""),
        "Trained on": texts.sentence(meta.get("trained_on", "")),
        "Trained": str(meta.get("trained_at", ""))[:10],
        "SHA-256 of the weights": sha256,
    }
    items = "".join(f"<div><dt>{texts(k)}</dt><dd>{escape(str(v))}</dd></div>" for k, v in rows.items() if v)
    return f"<p>{escape(texts(RESEARCH_USE))} {texts('Not a medical device.')}</p>{synthetic}<dl>{items}</dl>"


def _render_data(meta: Mapping[str, Any], texts: Texts) -> str:
    if meta.get("recipe") == "served":
        return render_collections(meta.get("data", ()), texts)
    rows = []
    for part in meta.get("data", ()):
        train, validation = part["counts"]["train"], part["counts"]["validation"]
        rows.append(
            [
                texts.title(MODALITY_TITLES[part["modality"]]),
                part["name"],
                *(f"{train[c]} / {validation[c]}" for c in CLASSES),
                part["licence"],
            ]
        )
    if not rows:
        return ""
    counts = (texts("{label}: training / validation", label=texts(CLASS_TITLES[c])) for c in CLASSES)
    header = ["", texts("Data set"), *counts, texts("Licence")]
    note = texts(SPLITS.get(meta.get("split", {}).get("protocol", ""), ""))
    return render_table(header, rows) + (f"<p>{note}</p>" if note else "")


def _render_metrics(metrics: Mapping[str, Any], texts: Texts) -> str:
    rows = []
    for head, report in metrics.items():
        auc = report["auc"]
        area = texts("not measured")
        if auc is not None:
            interval = texts("{low} to {high}", low=f"{auc['low']:.4f}", high=f"{auc['high']:.4f}")
            area = f"{auc['value']:.4f} ({interval})"
        shares = (format_share(report[m], texts) for m in ("accuracy", "sensitivity", "specificity"))
        rows.append([texts(HEAD_TITLES.get(head, head)), *shares, area])
    header = ["", texts("Accuracy"), texts("Sensitivity"), texts("Specificity"), "AUC"]
    note = f"<p>{texts('In brackets: 95 % intervals.')}</p>"
    return render_table(header, rows) + note if rows else ""


def _render_inside(metrics: Mapping[str, Any], texts: Texts) -> str:
    """The validation figures below the words that say what they are."""
    table = _render_metrics(metrics, texts)
    return f'<p class="mm-card-note">{texts(INSIDE)}</p>{table}' if table else ""


def _render_thresholds(meta: Mapping[str, Any], texts: Texts) -> str:
    """A slider per head over the operating points of the validation images."""
    known = meta.get("decision_threshold", {})
    return "".join(
        render_operating(find_operating(meta, head), known.get(head, 0.5), texts, title=texts(title))
        for head, title in HEAD_TITLES.items()
    )


def _render_confusion(metrics: Mapping[str, Any], texts: Texts) -> str:
    normal, positive = (texts(CLASS_TITLES[name]) for name in CLASSES)
    true, called = "actual: {label}", "predicted: {label}"
    tables = []
    for head, report in metrics.items():
        counts = report["counts"]
        rows = [
            [texts(true, label=normal), str(counts["true_negative"]), str(counts["false_positive"])],
            [texts(true, label=positive), str(counts["false_negative"]), str(counts["true_positive"])],
        ]
        title = texts(HEAD_TITLES.get(head, head))
        header = [title, texts(called, label=normal), texts(called, label=positive)]
        tables.append(render_table(header, rows))
    return f'<div class="mm-card-row">{"".join(tables)}</div>' if tables else ""


def _render_calibration(meta: Mapping[str, Any], metrics: Mapping[str, Any], texts: Texts) -> str:
    temperature = meta.get("temperature", {})
    rows = [
        [
            texts(HEAD_TITLES.get(head, head)),
            f"{temperature[head]:.3f}",
            f"{report['threshold']:g}",
            f"{report['calibration_error']:.4f}",
            f"{report['brier']:.4f}",
        ]
        for head, report in metrics.items()
        if head in temperature
    ]
    names = ("Temperature", "Threshold", "Expected calibration error", "Brier score")
    header = ["", *(texts(name) for name in names)]
    note = texts(TUNED_OUTSIDE if meta.get("recipe") == "served" else TUNED_INSIDE)
    return f"{render_table(header, rows)}<p>{note}</p>" if rows else ""


def _render_possibilities(possibilities: Iterable[Mapping[str, Any]], texts: Texts) -> str:
    keys = ("called_positive", "ct_called_positive", "xray_called_positive")
    rows = [
        [
            texts(POSSIBILITY_TITLES.get(part["kind"], part["kind"])),
            *(format_share(part[key], texts) for key in keys),
        ]
        for part in possibilities
    ]
    together = texts(TOGETHER, label=texts(POSITIVE_TITLE))
    header = [texts("True labels"), together, texts(BY_CT), texts(BY_XRAY)]
    note = texts(
        "Training pairs always agreed: pairs like those of the last two rows were never seen in training."
    )
    return f"{render_table(header, rows)}<p>{note}</p>" if rows else ""


def _render_comparison(comparison: Mapping[str, Any], texts: Texts) -> str:
    return (
        f"<p>{escape(texts.sentence(comparison['text']))}</p>{_render_metrics(comparison['metrics'], texts)}"
    )


def _render_limits(meta: Mapping[str, Any], texts: Texts) -> str:
    caveats = dict.fromkeys(c for part in meta.get("data", ()) for c in part.get("caveats", ()))
    items = [escape(texts.sentence(caveat)) for caveat in caveats]
    for limit in meta.get("limits", ()):
        title, text = (escape(texts.sentence(limit[name])) for name in ("title", "text"))
        items.append(f"<strong>{title}</strong> {text}")
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>" if items else ""


def _render_commands(meta: Mapping[str, Any]) -> str:
    earlier = (c for weights in meta.get("initial_weights", {}).values() for c in weights.get("commands", ()))
    commands = dict.fromkeys([*earlier, *([meta["command"]] if "command" in meta else [])])
    lines = escape("\n".join(commands))
    return f'<pre tabindex="0"><code>{lines}</code></pre>' if commands else ""
