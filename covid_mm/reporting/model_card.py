"""The model card: Markdown drawn from meta.json alone, with the bad news beside the good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITIES, RESEARCH_USE, join_titles
from covid_mm.evaluation.intervals import Proportion
from covid_mm.evaluation.report import BinaryReport
from covid_mm.evaluation.results import POSSIBILITY_TITLES, Possibility
from covid_mm.reporting import card_words
from covid_mm.reporting.front_matter import front_matter
from covid_mm.reporting.left_out_facts import LeftOutFacts, heat_titles, read_left_out
from covid_mm.reporting.left_out_tables import (
    confidence_table,
    fusion_table,
    heat_table,
    left_out_table,
    serving_table,
    shortcut_table,
    source_table,
)
from covid_mm.reporting.markdown import escape_markdown, render
from covid_mm.reporting.scan_tables import describe_scans
from covid_mm.reporting.served_facts import (
    INDEPENDENCE,
    data_table,
    external_table,
    non_commercial,
    refusal_table,
    training_table,
    worst_refusals,
)
from covid_mm.reporting.tables import (
    confusion_table,
    format_proportion,
    format_table,
    metrics_table,
    paper_comparison_table,
)

PAIRING = (
    "A CT slice and an X-ray were paired because they bear the same label, not because they are of one"
    " patient: two independent looks at the label, which makes the fused figure too good."
)

REFUSAL_REASONS = {
    "other_modality": "the other modality",
    "not_a_chest_image": "not a chest image",
    "unlike_training": "unlike the training images",
}


def render_card(meta: dict[str, Any], name: str) -> str:
    """The card of a checkpoint, of either recipe. meta: the object of meta.json.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: meta lacks what a card is drawn from.
    """
    return render("model_card.md.j2", **describe_card(meta, name))


def describe_card(meta: dict[str, Any], name: str) -> dict[str, Any]:
    """What the templates of the card and of docs/results.md say: values as text, tables as Markdown."""
    served = meta.get("recipe", "paper") == "served"
    facts = read_left_out(meta)
    reports = read_reports(meta.get("metrics", {}).get("validation", {}))
    context = {
        "meta": meta,
        "name": name,
        "served": served,
        "research_use": RESEARCH_USE,
        "front_matter": Markup(front_matter(meta, name, list(facts.tables) if facts else [])),
        "branches": " and ".join(f"{b} for {MODALITIES[m].title}" for m, b in meta["network"]["branches"]),
        "words": card_words,
        "tuning": card_words.TUNED[card_words.find_tuning(meta)],
        "is_pair": len(meta["network"]["branches"]) > 1,
        "modality_titles": {m: one.title for m, one in MODALITIES.items()},
        "title_head": title_head,
        "facts": facts,
        "left_out_tables": _left_out_tables(facts),
        "inside": _inside(reports, meta),
        "calibration_table": "" if served else _calibration_table(reports, meta),
        "possibilities": _possibilities(meta),
        "judge": meta.get("judge"),
        "content_check_table": Markup(content_check_table(meta["judge"]["measured"]))
        if meta.get("judge")
        else "",
        "comparisons": _comparisons(meta),
        "commands": _commands(meta),
    }
    return context | (_describe_served(meta) if served else _describe_paper(meta))


def title_head(head: str) -> str:
    """A head's name for people."""
    return f"{join_titles(MODALITIES)} combined" if head == "fused" else f"{MODALITIES[head].title} alone"


def read_reports(metrics: dict[str, Any]) -> dict[str, BinaryReport]:
    """Reports by head, from the JSON that keeps them."""
    return {head: BinaryReport.from_dict(values) for head, values in metrics.items()}


def content_check_table(measured: list[dict[str, Any]]) -> str:
    """What became of images in each slot: a row each, shares with their intervals."""
    rows = []
    for row in measured:
        outcomes, total = row["outcomes"], row["total"]
        refused = total - outcomes["answered"]
        reasons = ", ".join(
            f"{REFUSAL_REASONS[name]} {count}"
            for name, count in outcomes.items()
            if count and name in REFUSAL_REASONS
        )
        rows.append(
            [
                str(escape_markdown(row["images"])),
                row["kind"] if row["kind"] not in MODALITIES else MODALITIES[row["kind"]].title,
                MODALITIES[row["slot"]].title,
                format_proportion(Proportion.of(refused, total)),
                reasons or "-",
            ]
        )
    return format_table(
        ["images", "actual", "in the slot for", "not answered (95 % interval)", "because"], rows
    )


def _describe_served(meta: dict[str, Any]) -> dict[str, Any]:
    refusals, external = meta.get("refusals") or [], meta.get("external") or []
    return {
        "data_table": data_table(meta),
        "non_commercial": non_commercial(meta),
        "refusal_table": refusal_table(refusals) if refusals else "",
        "worst_refusals": worst_refusals(refusals),
        "external_table": external_table(external) if external else "",
        "external_worst": min(external, key=lambda row: row["auc"]) if external else None,
        "heat_titles": heat_titles(meta),
        "scans": describe_scans(meta),
        "reads_ct": "ct" in dict(map(tuple, meta["network"]["branches"])),
        "independence": INDEPENDENCE,
        "limits": [
            Markup(f"**{escape_markdown(limit['title'])}** {escape_markdown(limit['text'])}")
            for limit in meta.get("limits", ())
        ],
        "training_table": training_table(meta["training"]),
        "epochs": "",
    }


def _describe_paper(meta: dict[str, Any]) -> dict[str, Any]:
    word = "epoch" if card_words.find_tuning(meta) == "last" else "best epoch"
    epochs = "; ".join(
        f"{title_head(head)}: {word} {e['best']} of {e['of']}" for head, e in meta["epochs_run"].items()
    )
    return {"data_table": _data_table(meta), "limits": _limits(meta), "epochs": epochs}


def _left_out_tables(facts: LeftOutFacts | None) -> dict[str, Markup]:
    """The tables of the left-out part as Markdown; "" for what was not measured."""
    names = ("accuracy", "confidence", "serving", "shortcuts", "sources", "heat", "faithfulness", "fusion")
    if facts is None:
        return dict.fromkeys(names, Markup())
    tables = {
        "accuracy": left_out_table(facts.tables),
        "confidence": confidence_table(facts.tables),
        "serving": serving_table(facts.tables),
        "shortcuts": shortcut_table(facts.shortcuts) if facts.shortcuts else "",
        "sources": source_table(facts.source_rows) if facts.source_rows else "",
        "heat": heat_table(facts.heat_rows) if facts.heat_rows else "",
        "faithfulness": _faithfulness_table(facts.faithfulness) if facts.faithfulness else "",
        "fusion": fusion_table(facts.fusion) if facts.fusion else "",
    }
    return {name: Markup(table) for name, table in tables.items()}


def _faithfulness_table(rows: Sequence[dict[str, Any]]) -> str:
    header = ["method", "layer", "collection", "images", "deletion", "insertion", "like random weights"]
    cells = [
        [
            *(str(row[name]) for name in ("method", "layer", "collection", "images")),
            *(f"{value:.3f}" for value in (row["deletion"], row["insertion"])),
            f"{row['random_weights']['correlation']:.3f}",
        ]
        for row in rows
    ]
    return format_table(header, cells)


def _data_table(meta: dict[str, Any]) -> Markup:
    rows = []
    for part in meta["data"]:
        train, validation = part["counts"]["train"], part["counts"]["validation"]
        rows.append(
            [
                MODALITIES[part["modality"]].title,
                escape_markdown(part["name"]),
                *(f"{train[c]} / {validation[c]}" for c in CLASSES),
                escape_markdown(part["licence"]),
            ]
        )
    header = ["", "data set", *(f"{CLASS_TITLES[c]}: training / validation" for c in CLASSES), "licence"]
    return Markup(format_table(header, rows))


def _inside(reports: dict[str, BinaryReport], meta: dict[str, Any]) -> dict[str, Any] | None:
    """Tables of the validation images, which are of collections that were learned from; None without any."""
    if not reports:
        return None
    named = {title_head(head): report for head, report in reports.items()}
    backbones = dict(map(tuple, meta["network"]["branches"]))
    networks = {
        meta["pair"] if head == "fused" else f"{head}-{backbones[head]}": r for head, r in reports.items()
    }
    of_paper = not meta["synthetic"] and meta["split"]["protocol"] == "paper"
    return {
        "metrics": Markup(metrics_table(named)),
        "matrices": [(title, Markup(confusion_table(r.counts))) for title, r in named.items()],
        "paper": Markup(paper_comparison_table(networks)) if of_paper else "",
    }


def _calibration_table(reports: dict[str, BinaryReport], meta: dict[str, Any]) -> Markup:
    table = format_table(
        ["", "temperature", "threshold", "calibration error", "Brier score"],
        [
            [
                title_head(head),
                f"{meta['temperature'][head]:.3f}",
                f"{report.threshold:g}",
                f"{report.calibration_error:.4f}",
                f"{report.brier:.4f}",
            ]
            for head, report in reports.items()
        ],
    )
    return Markup(table)


def _possibilities(meta: dict[str, Any]) -> Markup | str:
    """The paper's four possibilities of a pair; "" for a single network or an older checkpoint."""
    parts = [Possibility.from_dict(values) for values in meta.get("possibilities", [])]
    if not parts:
        return ""
    rows = [
        [
            POSSIBILITY_TITLES[part.kind],
            str(part.studies),
            *(
                format_proportion(share)
                for share in (part.called_positive, part.ct_called_positive, part.xray_called_positive)
            ),
        ]
        for part in parts
    ]
    header = [
        "actual labels",
        "pairs",
        "predicted positive by CT and X-ray combined",
        "by the CT alone",
        "by the X-ray alone",
    ]
    return Markup(format_table(header, rows))


def _comparisons(meta: dict[str, Any]) -> list[dict[str, Any]]:
    entries = []
    for entry in meta.get("comparisons", []):
        named = {title_head(head): report for head, report in read_reports(entry["metrics"]).items()}
        entries.append(
            {
                "title": entry["title"],
                "text": f"{entry['text']} {entry['images']}." if "images" in entry else entry["text"],
                "metrics": Markup(metrics_table(named)),
                "matrices": [
                    (title, Markup(confusion_table(report.counts))) for title, report in named.items()
                ],
                "commands": "\n".join(entry["commands"]),
            }
        )
    return entries


def _limits(meta: dict[str, Any]) -> list[str]:
    caveats = list(dict.fromkeys(c for part in meta["data"] for c in part["caveats"]))
    if len(meta["data"]) > 1 and not any("pair" in c.lower() for c in caveats):
        caveats.append(PAIRING)
    if meta["split"]["protocol"] == "paper" and not meta["synthetic"]:
        caveats.append(card_words.SPLITS["paper"])
    caveats += [
        f"The {MODALITIES[m].title} backbone started from weights that had learned from another division of these"
        " images: some validation images were training images before."
        for m in meta["validation_seen_before"]
    ]
    if len(meta["data"]) > 1 and not meta.get("possibilities"):  # else said below their table
        caveats.append(card_words.PAIRS_AGREED)
    return caveats


def _commands(meta: dict[str, Any]) -> str:
    earlier = dict.fromkeys(c for w in meta["initial_weights"].values() for c in w["commands"])
    return "\n".join([*earlier, meta["command"]])
