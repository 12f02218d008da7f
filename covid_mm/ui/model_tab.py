"""The Model tab: the served checkpoint's card, drawn from its meta.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITY_TITLES, POSITIVE, RESEARCH_USE
from covid_mm.errors import CovidMMError
from covid_mm.ui.loading import PredictorLoader
from covid_mm.ui.roc_chart import draw_roc

POSITIVE_TITLE = CLASS_TITLES[CLASSES[POSITIVE]]
HEAD_TITLES = {"fused": "CT and X-ray together"} | {
    m: f"{title} alone" for m, title in MODALITY_TITLES.items()
}
POSSIBILITY_TITLES = {
    "both_negative": "both normal",
    "both_positive": "both positive",
    "ct_positive_xray_negative": "CT positive, X-ray normal",
    "ct_negative_xray_positive": "CT normal, X-ray positive",
}
SPLITS = {
    "paper": "Random split, as in the paper: images of one patient lie on both sides, which flatters every figure.",
    "grouped": "Grouped split: no patient and no cluster of like slices on both sides.",
}
WAITING = '<p class="mm-card-wait" role="status">The network is loading; its card appears here.</p>'


def render_loaded(loader: PredictorLoader) -> str:
    """The card of the loaded network, or one sentence where it could not be loaded."""
    try:
        predictor = loader.get()
    except (CovidMMError, RuntimeError) as error:
        return f'<p class="mm-card-wait" role="alert">{escape(str(error))}</p>'
    try:
        return render_model_card(predictor.meta, predictor.info.name)
    except (KeyError, TypeError, ValueError, AttributeError):  # the network answers all the same
        return '<p class="mm-card-wait" role="alert">The meta.json of this checkpoint lacks what its card shows.</p>'


def render_model_card(meta: Mapping[str, Any], name: str) -> str:
    """The card as HTML. meta: the object of meta.json; sections whose fields it lacks are left out."""
    metrics = meta.get("metrics", {}).get("validation", {})
    sections = [
        _render_intro(meta, name),
        _section("Data", _render_data(meta.get("data", ()), meta.get("split", {}))),
        _section("Measured on the validation images", _render_metrics(metrics)),
        _section("Confusion matrices", _render_confusion(metrics)),
        _section("ROC curves", draw_roc(meta.get("operating_points", {}), HEAD_TITLES)),
        _section("Calibration", _render_calibration(meta, metrics)),
        _section("The four possibilities", _render_possibilities(meta.get("possibilities", ()))),
        *(_section(c["title"], _render_comparison(c)) for c in meta.get("comparisons", ())),
        _section("Limits", _render_limits(meta)),
        _section("How to train it again", _render_commands(meta)),
    ]
    return f'<article class="mm-card">{"".join(sections)}</article>'


def format_share(share: Mapping[str, Any] | None) -> str:
    """`740/744 = 99.46 % (98.63 to 99.79)`, as meta.json keeps a share."""
    if share is None:
        return "not measured"
    low, high = 100 * share["low"], 100 * share["high"]
    return f"{share['successes']}/{share['total']} = {100 * share['value']:.2f} % ({low:.2f} to {high:.2f})"


def _render_intro(meta: Mapping[str, Any], name: str) -> str:
    synthetic = (
        "<p><b>Trained on synthetic phantoms, not on patients: it means nothing for a person.</b></p>"
        if meta.get("synthetic")
        else ""
    )
    sha256 = meta.get("weights", {}).get("sha256", "")
    rows = {
        "Checkpoint": name,
        "Network": meta.get("pair", ""),
        "Trained on": meta.get("trained_on", ""),
        "Trained": str(meta.get("trained_at", ""))[:10],
        "SHA-256 of the weights": sha256,
    }
    items = "".join(f"<div><dt>{k}</dt><dd>{escape(str(v))}</dd></div>" for k, v in rows.items() if v)
    return f"<p>{escape(RESEARCH_USE)} Not a medical device.</p>{synthetic}<dl>{items}</dl>"


def _render_data(data: Iterable[Mapping[str, Any]], split: Mapping[str, Any]) -> str:
    rows = []
    for part in data:
        train, validation = part["counts"]["train"], part["counts"]["validation"]
        rows.append(
            [
                MODALITY_TITLES[part["modality"]],
                part["name"],
                *(f"{train[c]} / {validation[c]}" for c in CLASSES),
                part["licence"],
            ]
        )
    if not rows:
        return ""
    header = ["", "Data set", *(f"{CLASS_TITLES[c]}: training / validation" for c in CLASSES), "Licence"]
    note = SPLITS.get(split.get("protocol", ""), "")
    return _table(header, rows) + (f"<p>{note}</p>" if note else "")


def _render_metrics(metrics: Mapping[str, Any]) -> str:
    rows = []
    for head, report in metrics.items():
        auc = report["auc"]
        area = (
            "not measured" if auc is None else f"{auc['value']:.4f} ({auc['low']:.4f} to {auc['high']:.4f})"
        )
        shares = (format_share(report[m]) for m in ("accuracy", "sensitivity", "specificity"))
        rows.append([HEAD_TITLES.get(head, head), *shares, area])
    header = ["", "Accuracy", "Sensitivity", "Specificity", "AUC"]
    return _table(header, rows) + "<p>In brackets: 95 % intervals.</p>" if rows else ""


def _render_confusion(metrics: Mapping[str, Any]) -> str:
    normal, positive = (CLASS_TITLES[name] for name in CLASSES)
    tables = []
    for head, report in metrics.items():
        counts = report["counts"]
        rows = [
            [f"truly {normal}", str(counts["true_negative"]), str(counts["false_positive"])],
            [f"truly {positive}", str(counts["false_negative"]), str(counts["true_positive"])],
        ]
        title = HEAD_TITLES.get(head, head)
        tables.append(_table([title, f"called {normal}", f"called {positive}"], rows))
    return f'<div class="mm-card-row">{"".join(tables)}</div>' if tables else ""


def _render_calibration(meta: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    temperature = meta.get("temperature", {})
    rows = [
        [
            HEAD_TITLES.get(head, head),
            f"{temperature[head]:.3f}",
            f"{report['threshold']:g}",
            f"{report['calibration_error']:.4f}",
            f"{report['brier']:.4f}",
        ]
        for head, report in metrics.items()
        if head in temperature
    ]
    header = ["", "Temperature", "Threshold", "Expected calibration error", "Brier score"]
    note = "<p>Temperature and best epoch were chosen on these same images; the threshold was not tuned.</p>"
    return _table(header, rows) + note if rows else ""


def _render_possibilities(possibilities: Iterable[Mapping[str, Any]]) -> str:
    keys = ("called_positive", "ct_called_positive", "xray_called_positive")
    rows = [
        [POSSIBILITY_TITLES.get(part["kind"], part["kind"]), *(format_share(part[key]) for key in keys)]
        for part in possibilities
    ]
    header = ["True labels", f"Called {POSITIVE_TITLE} together", "by the CT alone", "by the X-ray alone"]
    note = "<p>Training pairs always agreed: what the network says of the last two rows is untaught.</p>"
    return _table(header, rows) + note if rows else ""


def _render_comparison(comparison: Mapping[str, Any]) -> str:
    return f"<p>{escape(comparison['text'])}</p>{_render_metrics(comparison['metrics'])}"


def _render_limits(meta: Mapping[str, Any]) -> str:
    caveats = dict.fromkeys(c for part in meta.get("data", ()) for c in part.get("caveats", ()))
    return "<ul>" + "".join(f"<li>{escape(c)}</li>" for c in caveats) + "</ul>" if caveats else ""


def _render_commands(meta: Mapping[str, Any]) -> str:
    earlier = (c for weights in meta.get("initial_weights", {}).values() for c in weights.get("commands", ()))
    commands = dict.fromkeys([*earlier, *([meta["command"]] if "command" in meta else [])])
    lines = escape("\n".join(commands))
    return f'<pre tabindex="0"><code>{lines}</code></pre>' if commands else ""


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with row headings that scrolls by itself where it is wider than the page."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        '<div class="mm-card-table" tabindex="0" role="group"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
