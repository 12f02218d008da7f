"""ROC curves as inline SVG, from a checkpoint's operating points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.templates import render_template

SIDE = 240  # of the plot, in the SVG's units
MARGIN = 44
MARKED = "; at threshold {threshold} sensitivity {true} %, specificity {false} %"
CURRENT = 0.5  # the operating point that is marked where the thresholds hold it


def draw_roc(
    operating_points: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], texts: Texts = ENGLISH
) -> list[Markup]:
    """A small chart per head; none without operating points.

    operating_points: by head, `thresholds` with `true_positive` and `false_positive` counts of
    `positive` and `negative` images, as meta.json keeps them.
    """
    return [
        _draw_chart(texts(titles.get(head, head)), points, texts)
        for head, points in operating_points.items()
        if points["positive"] and points["negative"]
    ]


def trace_curve(points: Mapping[str, Any]) -> list[tuple[float, float]]:
    """(1 - specificity, sensitivity) from (0, 0) to (1, 1), in order."""
    pairs = {
        (false / points["negative"], true / points["positive"])
        for false, true in zip(points["false_positive"], points["true_positive"], strict=True)
    }
    return sorted({(0.0, 0.0), (1.0, 1.0)} | pairs)


def _draw_chart(title: str, points: Mapping[str, Any], texts: Texts) -> Markup:
    def to_point(x: float, y: float) -> str:
        return f"{MARGIN + x * SIDE:.1f},{8 + (1 - y) * SIDE:.1f}"

    dot, marked = None, ""
    if CURRENT in points["thresholds"]:
        row = points["thresholds"].index(CURRENT)
        x = points["false_positive"][row] / points["negative"]
        y = points["true_positive"][row] / points["positive"]
        dot = to_point(x, y).split(",")
        true, false = (texts.number(100 * share, 1) for share in (y, 1 - x))
        marked = texts(MARKED, threshold=texts.number(CURRENT, 1), true=true, false=false)
    return render_template(
        "model/roc_chart.html",
        texts,
        title=title,
        line=" ".join(to_point(x, y) for x, y in trace_curve(points)),
        dot=dot,
        marked=marked,
        side=SIDE,
        margin=MARGIN,
    )
