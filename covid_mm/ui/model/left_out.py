"""The card's sections on what the network is worth elsewhere: left-out collections, and where its maps point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from covid_mm.config import MODALITIES
from covid_mm.explain.method_table import METHODS
from covid_mm.reporting.card_tables import HEAT, tabulate_left_out
from covid_mm.reporting.card_words import HEAD_TITLES
from covid_mm.reporting.card_writer import Table, make_table
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.model.sections import PageWriter, Part
from covid_mm.ui.study.evidence import (
    INDEPENDENT,
    LAYER_TITLES,
    NOT_LEFT_OUT,
    describe_evidence,
    find_tables,
    read_evidence,
    read_supported,
    read_zone,
)

HEAT_HEAD = ("Marked by radiologists", "Method", "Layer", "Images", "Hottest point on it", "Chance")
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
            parts.append(tabulate_left_out(table, PageWriter(texts), title=texts(title)))
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
    left_out = meta.get("left_out")
    methods = (left_out.get("heatmaps") if isinstance(left_out, Mapping) else None) or ()
    tables = (Table(header, rows), make_table(HEAT, methods, PageWriter(texts)))
    shown = [table for table in tables if table.rows]
    return [*shown, note] if shown else []


def list_independence(meta: Mapping[str, Any], texts: Texts = ENGLISH) -> list[Part]:
    """What the combined answer takes for granted; nothing for a network of one modality."""
    branches = meta.get("network", {}).get("branches", ())
    return [texts(INDEPENDENT)] if len(branches) > 1 else []


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
