"""What the sections of a model card are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from covid_mm.config import MODALITY_TITLES
from covid_mm.ui.language import ENGLISH, Texts

HEAD_TITLES = {"fused": "CT and X-ray together"} | {
    m: f"{title} alone" for m, title in MODALITY_TITLES.items()
}


def format_share(share: Mapping[str, Any] | None, texts: Texts = ENGLISH) -> str:
    """`740/744 = 99.46 % (98.63 to 99.79)`, as meta.json keeps a share."""
    if share is None:
        return texts("not measured")
    interval = texts("{low} to {high}", low=f"{100 * share['low']:.2f}", high=f"{100 * share['high']:.2f}")
    return f"{share['successes']}/{share['total']} = {100 * share['value']:.2f} % ({interval})"


def format_interval(estimate: Mapping[str, Any] | None, texts: Texts, decimals: int | None = None) -> str:
    """`84 % (80 to 88)`, or with decimals `0.912 (0.887 to 0.934)`; none where it was not measured."""
    if estimate is None:
        return texts("none")
    value, low, high = (
        f"{estimate[name]:.{decimals}f}" if decimals else f"{100 * estimate[name]:.0f}"
        for name in ("value", "low", "high")
    )
    return f"{value}{'' if decimals else ' %'} ({texts('{low} to {high}', low=low, high=high)})"


def render_section(title: str, content: str) -> str:
    """A heading and what stands below it; nothing where there is nothing."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def render_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
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
