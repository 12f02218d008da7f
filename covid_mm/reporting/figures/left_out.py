"""Left-out figures: AUC of each collection with its interval, and reliability diagrams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from covid_mm.evaluation.left_out import LeftOutTable
from covid_mm.reporting.card_words import HEAD_TITLES
from covid_mm.reporting.figures.canvas import BLUE, FONT_SIZE, GREY, ORANGE, make_panels


def draw_left_out_aucs(tables: Sequence[LeftOutTable]) -> Figure:
    """A panel per head: each two-class collection's AUC with its 95 % interval, then their mean."""
    tallest = max(len(table.two_class_rows) for table in tables) + 1
    figure, panels = make_panels(len(tables), columns=1, width=8.0, height=1.4 + 0.36 * tallest)
    for axes, table in zip(panels, tables, strict=True):
        shown = [(row.collection, row.auc, BLUE) for row in table.two_class_rows]
        shown.append((f"mean of {len(shown)}", table.auc, ORANGE))
        for position, (_, auc, colour) in enumerate(shown):
            if auc is None:
                continue
            errors = [[auc.value - auc.low], [auc.high - auc.value]]
            axes.errorbar(auc.value, position, xerr=errors, fmt="o", color=colour, capsize=3)
            text = f"{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})"
            axes.text(1.02, position, text, va="center", fontsize=FONT_SIZE - 1)
        lowest = min([0.5, *(auc.low for _, auc, _ in shown if auc is not None)])
        axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(shown)), [name for name, _, _ in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(np.floor(20 * lowest) / 20, 1.0)
        axes.set_xlabel("AUC on the collection left out, 95 % interval by patient")
        axes.set_title(HEAD_TITLES.get(table.head, table.head))
    return figure


def draw_reliability(table: LeftOutTable) -> Figure:
    """A panel a two-class collection: share of positives against the probability, calibrated on the others.

    A dot's area grows with its images.
    """
    rows = table.two_class_rows
    figure, panels = make_panels(len(rows), columns=3, width=3.6, height=3.8)
    for axes, row in zip(panels, rows, strict=True):
        bins = row.reliability or ()
        largest = max((part.images for part in bins), default=1)
        axes.plot((0, 1), (0, 1), color=GREY, linewidth=0.8, linestyle=":")
        axes.plot(
            [part.probability for part in bins], [part.positive for part in bins], color=BLUE, linewidth=1.2
        )
        axes.scatter(
            [part.probability for part in bins],
            [part.positive for part in bins],
            s=[12 + 110 * part.images / largest for part in bins],
            color=BLUE,
            zorder=3,
        )
        error = "" if row.ece is None else f"ECE {100 * row.ece:.1f} %, "
        axes.set_title(f"{row.collection}\n{error}{row.images} images")
        axes.set_xlabel("probability of COVID-19 pneumonia")
        axes.set_ylabel("share of positive images")
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_aspect("equal")
    return figure
