"""The model card: Markdown drawn from meta.json alone, with the bad news beside the good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from covid_mm.config import MODALITIES, RESEARCH_USE
from covid_mm.evaluation.report import BinaryReport
from covid_mm.reporting import card_words
from covid_mm.reporting.card_tables import (
    COLLECTIONS,
    CONTENT_CHECK,
    FAITHFULNESS,
    HEAT,
    SHORTCUTS,
    metrics_table,
    tabulate_calibration,
    tabulate_confusion,
    tabulate_data,
    tabulate_possibilities,
    tabulate_refusals,
)
from covid_mm.reporting.card_writer import CARD, make_table
from covid_mm.reporting.front_matter import front_matter
from covid_mm.reporting.left_out_facts import LeftOutFacts, heat_titles, read_left_out
from covid_mm.reporting.left_out_tables import (
    confidence_table,
    fusion_table,
    left_out_table,
    serving_table,
    source_table,
)
from covid_mm.reporting.markdown import escape_markdown, render
from covid_mm.reporting.scan_tables import describe_scans
from covid_mm.reporting.served_facts import (
    INDEPENDENCE,
    external_table,
    non_commercial,
    training_table,
    worst_refusals,
)
from covid_mm.reporting.tables import paper_comparison_table

PAIRING = (
    "A CT slice and an X-ray were paired because they bear the same label, not because they are of one"
    " patient: two independent looks at the label, which makes the fused figure too good."
)


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
    validation = meta.get("metrics", {}).get("validation", {})
    content_check = meta.get("content_check") or {}
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
        "inside": _inside(validation, meta),
        "calibration_table": ""
        if served
        else tabulate_calibration(validation, meta["temperature"], CARD).markdown,
        "possibilities": tabulate_possibilities(meta.get("possibilities", []), CARD).markdown,
        "content_check": content_check,
        "content_check_table": make_table(CONTENT_CHECK, content_check.get("measured", []), CARD).markdown,
        "comparisons": _comparisons(meta),
        "commands": _commands(meta),
    }
    return context | (_describe_served(meta) if served else _describe_paper(meta))


def title_head(head: str) -> str:
    """A head's name for people."""
    return card_words.HEAD_TITLES[head]


def read_reports(metrics: dict[str, Any]) -> dict[str, BinaryReport]:
    """Reports by head, from the JSON that keeps them."""
    return {head: BinaryReport.from_dict(values) for head, values in metrics.items()}


def _describe_served(meta: dict[str, Any]) -> dict[str, Any]:
    refusals, external = meta.get("refusals") or [], meta.get("external") or []
    return {
        "data_table": make_table(COLLECTIONS, meta["data"], CARD).markdown,
        "non_commercial": non_commercial(meta),
        "refusal_table": tabulate_refusals(refusals, CARD).markdown,
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
    return {
        "data_table": tabulate_data(meta["data"], CARD).markdown,
        "limits": _limits(meta),
        "epochs": epochs,
    }


def _left_out_tables(facts: LeftOutFacts | None) -> dict[str, Markup]:
    """The tables of the left-out part as Markdown; "" for what was not measured."""
    names = ("accuracy", "confidence", "serving", "shortcuts", "sources", "heat", "faithfulness", "fusion")
    if facts is None:
        return dict.fromkeys(names, Markup())
    tables = {
        "accuracy": left_out_table(facts.tables),
        "confidence": confidence_table(facts.tables),
        "serving": serving_table(facts.tables),
        "shortcuts": make_table(SHORTCUTS, [row.to_dict() for row in facts.shortcuts], CARD).markdown,
        "sources": source_table(facts.source_rows) if facts.source_rows else "",
        "heat": make_table(HEAT, [row.to_dict() for row in facts.heat_rows], CARD).markdown,
        "faithfulness": make_table(FAITHFULNESS, facts.faithfulness, CARD).markdown,
        "fusion": fusion_table(facts.fusion) if facts.fusion else "",
    }
    return {name: Markup(table) for name, table in tables.items()}


def _draw_reports(reports: Mapping[str, BinaryReport]) -> dict[str, Any]:
    """Their table, and each one's confusion matrix below its head's title."""
    named = {title_head(head): report for head, report in reports.items()}
    return {
        "metrics": Markup(metrics_table(named)),
        "matrices": [
            (title, tabulate_confusion(report.counts.to_dict(), CARD).markdown)
            for title, report in named.items()
        ],
    }


def _inside(metrics: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any] | None:
    """Tables of the validation images, which are of collections that were learned from; None without any."""
    if not metrics:
        return None
    reports = read_reports(metrics)
    backbones = dict(map(tuple, meta["network"]["branches"]))
    networks = {
        meta["pair"] if head == "fused" else f"{head}-{backbones[head]}": r for head, r in reports.items()
    }
    of_paper = not meta["synthetic"] and meta["split"]["protocol"] == "paper"
    paper = paper_comparison_table(networks) if of_paper else ""
    return _draw_reports(reports) | {"paper": Markup(paper)}


def _comparisons(meta: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "title": entry["title"],
            "text": f"{entry['text']} {entry['images']}." if "images" in entry else entry["text"],
            "commands": "\n".join(entry["commands"]),
        }
        | _draw_reports(read_reports(entry["metrics"]))
        for entry in meta.get("comparisons", [])
    ]


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
