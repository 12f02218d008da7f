"""The card's sections on collections of images: what each was used for, and how often it gets no answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITY_TITLES, REFUSAL_TITLES, SHORTCUT_TITLES
from covid_mm.ui.card_parts import format_interval, render_table
from covid_mm.ui.language import Texts

COLLECTIONS_HEAD = (
    "Collection",
    "Used for",
    *(CLASS_TITLES[name] for name in CLASSES),
    "Other",
    "Patients",
    "Licence",
)
REFUSALS_HEAD = ("Collection", "Images")
SHORTCUTS_HEAD = ("Collection", "What is left of the image", "Images")
HELD_OUT = (
    "Of the two sets of the paper, the validation images of its random split were held out of training. Collections"
    " for evaluation only never teach: a collection of one class would teach that its source has that class."
)
SHORTCUT_NOTE = (
    "AUC on left-out collections when the lungs, or all but the lungs, are taken away. A network that reads the lungs"
    " alone would have 0.5 without them; what is above is read from the surroundings or from the lungs' outline."
)


def render_collections(data: Iterable[Mapping[str, Any]], texts: Texts) -> str:
    """A row for each collection of `meta["data"]`, as the recipe served writes it."""
    rows = [
        [
            texts.title(MODALITY_TITLES[part["modality"]]),
            part["title"],
            texts("training ({count} images)", count=f"{part['trained']:,}")
            if part["use"] == "training"
            else texts("evaluation only"),
            *(f"{part['counts'].get(name, 0):,}" for name in (*CLASSES, "other")),
            f"{part['patients']:,}" if part["patients"] else texts("not known"),
            part["licence"],
        ]
        for part in data
    ]
    header = ["", *(texts(title) for title in COLLECTIONS_HEAD)]
    return f"{render_table(header, rows)}<p>{texts(HELD_OUT)}</p>" if rows else ""


def render_refusals(refusals: Iterable[Mapping[str, Any]], texts: Texts) -> str:
    """A row for each collection of `meta["refusals"]`: how many images get no answer, and why."""
    rows = [
        [
            texts.title(MODALITY_TITLES[row["modality"]]),
            row["collection"],
            f"{row['images']:,}",
            *(f"{row[kind]:,}" for kind in REFUSAL_TITLES),
        ]
        for row in refusals
    ]
    header = ["", *(texts.title(title) for title in (*REFUSALS_HEAD, *REFUSAL_TITLES.values()))]
    return render_table(header, rows) if rows else ""


def render_shortcuts(left_out: Mapping[str, Any], texts: Texts) -> str:
    """A row for each collection and test of `meta["left_out"]["shortcuts"]`."""
    rows = [
        [
            row["collection"],
            texts.title(SHORTCUT_TITLES.get(row["test"], row["test"])),
            f"{row['images']:,}",
            format_interval({"value": row["auc"], "low": row["low"], "high": row["high"]}, texts, 3),
        ]
        for row in left_out.get("shortcuts", ())
    ]
    header = [*(texts(title) for title in SHORTCUTS_HEAD), "AUC"]
    return f"{render_table(header, rows)}<p>{texts(SHORTCUT_NOTE)}</p>" if rows else ""
