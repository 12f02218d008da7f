"""ROC curves as inline SVG, from a checkpoint's operating points."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from covid_mm.ui.i18n.language import ENGLISH, Texts

SIDE = 240  # of the plot, in the SVG's units
MARGIN = 44
MARKED = "; at threshold {threshold} sensitivity {true} %, specificity {false} %"
CURRENT = 0.5  # the operating point that is marked where the thresholds hold it


def draw_roc(
    operating_points: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], texts: Texts = ENGLISH
) -> str:
    """A small chart per head, side by side; empty without operating points.

    operating_points: by head, `thresholds` with `true_positive` and `false_positive` counts of
    `positive` and `negative` images, as meta.json keeps them.
    """
    charts = "".join(
        _draw_chart(texts(titles.get(head, head)), points, texts)
        for head, points in operating_points.items()
        if points["positive"] and points["negative"]
    )
    return f'<div class="mm-card-row">{charts}</div>' if charts else ""


def trace_curve(points: Mapping[str, Any]) -> list[tuple[float, float]]:
    """(1 - specificity, sensitivity) from (0, 0) to (1, 1), in order."""
    pairs = {
        (false / points["negative"], true / points["positive"])
        for false, true in zip(points["false_positive"], points["true_positive"], strict=True)
    }
    return sorted({(0.0, 0.0), (1.0, 1.0)} | pairs)


def _draw_chart(title: str, points: Mapping[str, Any], texts: Texts) -> str:
    def to_point(x: float, y: float) -> str:
        return f"{MARGIN + x * SIDE:.1f},{8 + (1 - y) * SIDE:.1f}"

    line = " ".join(to_point(x, y) for x, y in trace_curve(points))
    marks = "".join(
        f'<text class="mm-roc-tick" x="{MARGIN - 6}" y="{8 + (1 - v) * SIDE + 4:.0f}" text-anchor="end">{v:g}</text>'
        f'<text class="mm-roc-tick" x="{MARGIN + v * SIDE:.0f}" y="{SIDE + 24}" text-anchor="middle">{v:g}</text>'
        for v in (0.0, 0.5, 1.0)
    )
    dot, said = "", ""
    if CURRENT in points["thresholds"]:
        row = points["thresholds"].index(CURRENT)
        x = points["false_positive"][row] / points["negative"]
        y = points["true_positive"][row] / points["positive"]
        cx, cy = to_point(x, y).split(",")
        dot = f'<circle class="mm-roc-dot" cx="{cx}" cy="{cy}" r="5"/>'
        said = texts(MARKED, threshold=f"{CURRENT:g}", true=f"{100 * y:.1f}", false=f"{100 * (1 - x):.1f}")
    width, height = SIDE + MARGIN + 12, SIDE + 52
    across, up = texts("1 - specificity"), texts("sensitivity")
    return f"""
<figure><svg class="mm-roc" viewBox="0 0 {width} {height}" role="img"
  aria-label="{escape(texts("ROC curve, {title}", title=title) + said)}">
  <rect class="mm-roc-frame" x="{MARGIN}" y="8" width="{SIDE}" height="{SIDE}"/>
  <line class="mm-roc-chance" x1="{MARGIN}" y1="{8 + SIDE}" x2="{MARGIN + SIDE}" y2="8"/>
  <polyline class="mm-roc-line" points="{line}"/>{dot}{marks}
  <text class="mm-roc-tick" x="{MARGIN + SIDE / 2}" y="{SIDE + 44}" text-anchor="middle">{across}</text>
  <text class="mm-roc-tick" transform="translate(13 {8 + SIDE / 2}) rotate(-90)" text-anchor="middle">{up}</text>
</svg><figcaption>{escape(title)}{escape(said)}</figcaption></figure>"""
