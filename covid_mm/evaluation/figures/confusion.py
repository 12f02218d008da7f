"""Confusion matrices: the paper's Figures 3 (concatenated networks) and 4 (single ones)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from covid_mm.evaluation.figures.canvas import FONT_SIZE, make_panels
from covid_mm.evaluation.paper_table import find_paper_row
from covid_mm.evaluation.results import NetworkResult

LABELS = ("normal", "COVID-19\npneumonia")


def draw_confusion_matrices(networks: Sequence[NetworkResult]) -> Figure:
    """A panel a network: counts, and the share of the true class, which the colour shows."""
    figure, panels = make_panels(len(networks), columns=3)
    for axes, network in zip(panels, networks, strict=True):
        counts = network.report.counts
        matrix = np.array(
            [[counts.true_negative, counts.false_positive], [counts.false_negative, counts.true_positive]]
        )
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
        for row in range(2):
            for column in range(2):
                axes.text(
                    column,
                    row,
                    f"{matrix[row, column]}\n{100 * shares[row, column]:.1f} %",
                    ha="center",
                    va="center",
                    fontsize=FONT_SIZE + 1,
                    color="white" if shares[row, column] > 0.55 else "black",
                )
        axes.set_xticks((0, 1), LABELS)
        axes.set_yticks((0, 1), LABELS, rotation=90, va="center")
        axes.set_xlabel("called")
        axes.set_ylabel("truly")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        paper = find_paper_row(network.name)
        title = network.name if paper is None else paper.title.replace(" and ", "\nand ")
        axes.set_title(f"{title}\naccuracy {100 * network.report.accuracy.value:.2f} %")
    return figure
