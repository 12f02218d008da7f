"""The card's sections on what the network is worth elsewhere: left-out collections, and where its maps point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from covid_mm.config import MODALITIES
from covid_mm.explain.method_table import METHODS
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.model.sections import Part, Table, format_interval
from covid_mm.ui.study.evidence import (
    HEAD_TITLES,
    INDEPENDENT,
    LAYER_TITLES,
    NOT_LEFT_OUT,
    describe_evidence,
    find_tables,
    read_evidence,
    read_supported,
    read_zone,
)

LEFT_OUT_HEAD = (
    "Normal / positive",
    "AUC",
    "Sensitivity",
    "Specificity",
    "Calibration error",
    "Answered",
    "False alarms",
    "Normal, yet over 99 %",
)
HEAT_HEAD = ("Marked by radiologists", "Method", "Layer", "Images", "Hottest point on it", "Chance")
METHODS_HEAD = (
    "Collection",
    "Method",
    "Layer",
    "Images",
    "Hottest point on it",
    "Chance",
    "Share of heat on it",
    "Hottest point in the lungs",
)
TARGET_TITLES = {"opacity boxes": "boxes round opacities", "lesion masks": "masks of lesions"}
HOW = (
    "Each row is scored by a network that was trained without that collection, with calibration, threshold and abstain"
    " zone from the others. In brackets: 95 % intervals by patient. Answered: outside the abstain zone. A collection"
    " of one class has no AUC; of normal images only, it counts false alarms."
)
OWN = "* calibrated on itself, as no other collection has both classes. This data leakage makes its figures too good."


def list_left_out(meta: Mapping[str, Any], texts: Texts = ENGLISH) -> list[Part]:
    """Each head's sentence and its table, a row for each collection; a sentence where nothing was measured."""
    parts: list[Part] = []
    tables = dict(find_tables(meta.get("left_out")))
    for head, title in HEAD_TITLES.items():
        evidence, table = read_evidence(meta, head), tables.get(head)
        if evidence is not None:
            sentences = f"{describe_evidence(evidence, texts)} {_describe_use(meta, head, texts)}"
            parts.append(Markup("<p><strong>{}.</strong> {}</p>").format(texts(title), sentences))
        if table is not None:
            parts.append(_make_table(texts(title), table, texts))
    if not parts:
        return [texts(NOT_LEFT_OUT)]
    own = any(row.get("is_own_calibration") for table in tables.values() for row in table["rows"])
    if tables:
        parts.append(f"{texts(HOW)} {texts(OWN)}" if own else texts(HOW))
    return parts


def list_heat_location(meta: Mapping[str, Any], texts: Texts = ENGLISH) -> list[Part]:
    """How often the hottest point of a map lies on a lesion; empty where it was not measured.

    A row per modality for the maps that answers come with, and below it every method and layer that
    was measured: `meta["left_out"]["heatmaps"]`, rows as `evaluation.heat_location` writes them.
    """
    measured = meta.get("heat_location") or {}
    rows = []
    for modality in MODALITIES:
        if part := measured.get(modality):
            rows.append(
                [
                    texts.title(MODALITIES[modality].title),
                    texts(TARGET_TITLES.get(part["target"], part["target"])),
                    METHODS[part["method"]].title,
                    texts(LAYER_TITLES[part["layer"]]),
                    texts.number(part["images"]),
                    texts.percent(part["hit"]),
                    texts.percent(part["chance"]),
                ]
            )
    header = ["", *(texts(name) for name in HEAT_HEAD)]
    note = texts("On positive images of hospitals and scanners that were left out of training.")
    tables = [*([Table(header, rows)] if rows else []), *_list_methods(meta.get("left_out"), texts)]
    return [*tables, note] if tables else []


def list_independence(meta: Mapping[str, Any], texts: Texts = ENGLISH) -> list[Part]:
    """What the combined answer takes for granted; nothing for a network of one modality."""
    branches = meta.get("network", {}).get("branches", ())
    return [texts(INDEPENDENT)] if len(branches) > 1 else []


def _list_methods(left_out: Any, texts: Texts) -> list[Table]:
    measured = left_out.get("heatmaps") if isinstance(left_out, Mapping) else None
    rows = [
        [
            row["collection"],
            METHODS[row["method"]].title,
            texts(LAYER_TITLES[row["layer"]]),
            texts.number(row["images"]),
            format_interval({"value": row["hit"], "low": row["hit_low"], "high": row["hit_high"]}, texts),
            texts.percent(row["chance"]),
            texts.percent(row["heat_share"]),
            _format_plain(row.get("in_lungs_hit"), texts) or texts("none"),
        ]
        for row in measured or ()
    ]
    return [Table([texts(name) for name in METHODS_HEAD], rows)] if rows else []


def _describe_use(meta: Mapping[str, Any], head: str, texts: Texts) -> str:
    """What serving takes from them: threshold, abstain zone, highest probability shown."""
    sentences = []
    if (threshold := meta.get("decision_threshold", {}).get(head)) is not None:
        sentences.append(texts("Threshold {value}.", value=texts.percent(threshold)))
    if (zone := read_zone(meta, head)) is not None:
        sentences.append(texts("Abstain zone {zone}.", zone=texts.interval(*zone)))
    if (most := read_supported(meta, head)) < 1:
        sentences.append(texts("No probability above {value} is shown.", value=texts.percent(most)))
    return " ".join(sentences)


def _make_table(title: str, table: Mapping[str, Any], texts: Texts) -> Table:
    rows = [_make_row(row, texts) for row in table["rows"]]
    if auc := table.get("auc"):
        evidence = table.get("evidence", {})
        mean = [texts("mean of the two-class collections"), "", format_interval(auc, texts, 3)]
        mean += [_format_plain(evidence.get(name), texts) for name in ("sensitivity", "specificity", "ece")]
        rows.append([*mean, "", "", ""])
    return Table([title, *(texts(name) for name in LEFT_OUT_HEAD)], rows)


def _make_row(row: Mapping[str, Any], texts: Texts) -> list[str]:
    right = row.get("specificity")
    alarms = right and {"value": 1 - right["value"], "low": 1 - right["high"], "high": 1 - right["low"]}
    return [
        row["collection"] + (" *" if row.get("is_own_calibration") else ""),
        f"{texts.number(row['normal'])} / {texts.number(row['positive'])}",
        format_interval(row.get("auc"), texts, 3),
        format_interval(row.get("sensitivity"), texts),
        format_interval(right, texts),
        _format_plain(row.get("ece"), texts) or texts("none"),
        format_interval(row.get("coverage"), texts),
        format_interval(alarms, texts),
        format_interval(row.get("over_99"), texts),
    ]


def _format_plain(share: float | None, texts: Texts) -> str:
    return "" if share is None else texts.percent(share)
