"""The paper's "four possibilities" of a pair as bars with intervals."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from covid_mm.evaluation.figures.canvas import BLUE, FONT_SIZE, GREEN, ORANGE, make_panels
from covid_mm.evaluation.paper_table import find_paper_row
from covid_mm.evaluation.results import NetworkResult

LABELS = {
    "both_negative": "both\nnormal",
    "both_positive": "both\npositive",
    "ct_positive_xray_negative": "CT positive\nX-ray normal",
    "ct_negative_xray_positive": "CT normal\nX-ray positive",
}
HEADS = (
    ("called_positive", "together", BLUE),
    ("ct_called_positive", "CT alone", ORANGE),
    ("xray_called_positive", "X-ray alone", GREEN),
)
_WIDTH = 0.26


def draw_possibilities(pairs: Sequence[NetworkResult]) -> Figure:
    """A panel a concatenated network: the share of pairs called positive, by whom, with 95 % intervals."""
    shown = [pair for pair in pairs if pair.possibilities]
    figure, panels = make_panels(len(shown), columns=1, width=9.0, height=3.3)
    for axes, pair in zip(panels, shown, strict=True):
        for place, part in enumerate(pair.possibilities):
            for offset, (name, label, colour) in enumerate(HEADS):
                share = getattr(part, name)
                middle = place + (offset - 1) * _WIDTH
                value = 100 * share.value
                axes.bar(middle, value, _WIDTH * 0.92, color=colour, label=label if place == 0 else None)
                below, above = value - 100 * share.low, 100 * share.high - value
                axes.errorbar(middle, value, [[max(below, 0)], [max(above, 0)]], color="black", capsize=3)
                axes.text(middle, 100 * share.high + 2, f"{value:.0f}", ha="center", fontsize=FONT_SIZE - 1)
        axes.set_xticks(range(len(pair.possibilities)), [LABELS[part.kind] for part in pair.possibilities])
        axes.set_ylim(0, 115)
        axes.set_yticks(range(0, 101, 25))
        axes.set_ylabel("% called positive")
        paper = find_paper_row(pair.name)
        axes.set_title(pair.name if paper is None else paper.title)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
