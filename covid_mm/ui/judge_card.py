"""The card's section on the judge of image content: what it was measured on, and how often it was right."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from covid_mm.config import MODALITY_TITLES
from covid_mm.ui.card_parts import render_table
from covid_mm.ui.language import Texts

NEITHER = "neither"


def render_judge(judge: Mapping[str, Any] | None, texts: Texts) -> str:
    """A table of the images it was measured on. judge: that of meta.json; empty without one."""
    if not judge:
        return ""
    learned = judge["trained_on"]
    intro = texts(
        "Before an answer a small judge names what each image shows: a chest CT slice, a chest X-ray, or neither."
        " It learned from {ct} CT slices, {xray} X-rays and {neither} other pictures.",
        **learned,
    )
    rows = []
    for part in judge["measured"]:
        refused = part["total"] - part["outcomes"]["answered"]
        share = f"{refused}/{part['total']} = {100 * refused / part['total']:.2f} %"
        wanted = "wrongly" if part["kind"] == part["slot"] else "rightly"
        kind = texts("neither") if part["kind"] == NEITHER else texts(MODALITY_TITLES[part["kind"]])
        slot = texts(MODALITY_TITLES[part["slot"]])
        rows.append([texts.sentence(part["images"]), kind, slot, f"{share} {texts(wanted)}"])
    header = [texts(name) for name in ("Images", "they are", "in the slot for", "not answered")]
    return f"<p>{escape(intro)}</p>{render_table(header, rows)}"
