"""Figures of the paper's networks: data (Figure 1), confusion matrices (3 and 4), curves, the four possibilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from covid_mm.config import (
    CLASS_TITLES,
    CLASSES,
    MODALITIES,
)
from covid_mm.evaluation.results import HISTOGRAM_BINS, DataSummary, NetworkResult, Results
from covid_mm.reporting.figures.canvas import BLUE, FONT_SIZE, GREEN, GREY, ORANGE, SERIES, make_panels
from covid_mm.reporting.paper_table import find_paper_row

_EDGES = np.linspace(0.0, 255.0, HISTOGRAM_BINS + 1)


def draw_examples(
    results: Results, examples: Mapping[tuple[str, str], NDArray[Any]], examples_are: str
) -> Figure:
    """A row per modality and class: the example, its histogram, and the training images' mean one."""
    rows = [(m, c) for m in MODALITIES for c in CLASSES if (m, c) in examples]
    figure, panels = make_panels(3 * len(rows), columns=3, width=3.5, height=2.8)
    for index, (modality, name) in enumerate(rows):
        picture, own, mean = panels[3 * index : 3 * index + 3]
        image = np.asarray(examples[modality, name])
        picture.imshow(image, cmap="gray", vmin=0, vmax=255)
        picture.set_axis_off()
        picture.set_title(f"{MODALITIES[modality].title}: {CLASS_TITLES[name]}\n({examples_are})")
        counts, _ = np.histogram(image, bins=_EDGES)
        _draw_bars(own, counts / max(counts.sum(), 1), BLUE, "its pixels")
        data = _find_data(results, modality)
        if data is not None and name in data.mean_histograms:
            count = data.train[CLASSES.index(name)]
            _draw_bars(mean, data.mean_histograms[name], ORANGE, f"mean of {count} training images")
        else:
            mean.set_axis_off()
    return figure


def _find_data(results: Results, modality: str) -> DataSummary | None:
    return next((part for part in results.data if part.modality == modality), None)


def _draw_bars(axes: Any, shares: Any, colour: str, title: str) -> None:
    axes.stairs(100 * np.asarray(shares), _EDGES, fill=True, color=colour)
    axes.set_xlim(0, 255)
    axes.set_title(title)
    axes.set_xlabel("grey level", fontsize=FONT_SIZE - 1)
    axes.set_ylabel("% of pixels", fontsize=FONT_SIZE - 1)


CLASS_LABELS = ("normal", "COVID-19\npneumonia")


def draw_confusion_matrices(networks: Sequence[NetworkResult]) -> Figure:
    """A panel per network: counts, and the share of the true class, which the colour shows."""
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
        axes.set_xticks((0, 1), CLASS_LABELS)
        axes.set_yticks((0, 1), CLASS_LABELS, rotation=90, va="center")
        axes.set_xlabel("called")
        axes.set_ylabel("truly")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        paper = find_paper_row(network.name)
        title = network.name if paper is None else paper.title.replace(" and ", "\nand ")
        axes.set_title(f"{title}\naccuracy {100 * network.report.accuracy.value:.2f} %")
    return figure


GROUPS = {"concatenated": None} | {f"{one.title} alone": m for m, one in MODALITIES.items()}


def draw_roc_curves(networks: Sequence[NetworkResult]) -> Figure:
    """A panel each for concatenated, CT and X-ray networks; the legend gives AUC and 95 % interval."""
    grouped = {title: _choose(networks, modality) for title, modality in GROUPS.items()}
    shown = {title: part for title, part in grouped.items() if part}
    figure, panels = make_panels(len(shown), columns=3, width=4.3, height=5.0)
    for axes, (title, part) in zip(panels, shown.items(), strict=True):
        axes.plot((0, 1), (0, 1), color=GREY, linewidth=0.8, linestyle=":")
        for network, colour in zip(part, SERIES, strict=False):
            auc = network.report.auc
            area = "" if auc is None else f"\nAUC {auc.value:.4f} ({auc.low:.4f} to {auc.high:.4f})"
            axes.plot(
                network.roc.false_positive_rate,
                network.roc.true_positive_rate,
                color=colour,
                linewidth=1.8,
                label=f"{_title(network)}{area}",
            )
        axes.set_title(title)
        axes.set_xlabel("1 - specificity")
        axes.set_ylabel("sensitivity")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=FONT_SIZE - 1)
    return figure


def draw_training_curves(networks: Sequence[NetworkResult]) -> Figure:
    """Two panels per network, loss and accuracy, training and validation, the best epoch marked."""
    figure, panels = make_panels(2 * len(networks), columns=4, width=3.3, height=2.7)
    for index, network in enumerate(networks):
        epochs = [row["epoch"] for row in network.history]
        for axes, key in ((panels[2 * index], "loss"), (panels[2 * index + 1], "accuracy")):
            for name, label, colour in ((key, "training", BLUE), (f"val_{key}", "validation", ORANGE)):
                values = [row[name] for row in network.history]
                axes.plot(epochs, values, color=colour, label=label, marker="o", markersize=3, linewidth=1.5)
            axes.axvline(network.best_epoch, color=GREY, linewidth=0.8, linestyle=":", label="best epoch")
            axes.set_title(f"{_title(network)}\n{key}")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    panels[0].legend(frameon=False, fontsize=FONT_SIZE - 2)
    return figure


def _choose(networks: Sequence[NetworkResult], modality: str | None) -> list[NetworkResult]:
    if modality is None:
        return [network for network in networks if network.is_concatenated]
    return [n for n in networks if not n.is_concatenated and n.branches[0][0] == modality]


def _title(network: NetworkResult) -> str:
    paper = find_paper_row(network.name)
    return network.name if paper is None else paper.title.removesuffix(" (CT)").removesuffix(" (X-ray)")


POSSIBILITY_LABELS = {
    "both_negative": "both\nnormal",
    "both_positive": "both\npositive",
    "ct_positive_xray_negative": "CT positive\nX-ray normal",
    "ct_negative_xray_positive": "CT normal\nX-ray positive",
}
HEADS = (
    ("called_positive", "together", BLUE),
    *(
        (f"{m}_called_positive", f"{one.title} alone", colour)
        for (m, one), colour in zip(MODALITIES.items(), (ORANGE, GREEN), strict=False)
    ),
)
_WIDTH = 0.26


def draw_possibilities(pairs: Sequence[NetworkResult]) -> Figure:
    """A panel a concatenated network: the share of pairs called positive, by whom, with 95 % intervals."""
    shown = [pair for pair in pairs if pair.possibilities]
    figure, panels = make_panels(len(shown), columns=1, width=9.0, height=3.3)
    for axes, pair in zip(panels, shown, strict=True):
        for group, part in enumerate(pair.possibilities):
            for offset, (name, label, colour) in enumerate(HEADS):
                share = getattr(part, name)
                middle = group + (offset - 1) * _WIDTH
                value = 100 * share.value
                axes.bar(middle, value, _WIDTH * 0.92, color=colour, label=label if group == 0 else None)
                below, above = value - 100 * share.low, 100 * share.high - value
                axes.errorbar(middle, value, [[max(below, 0)], [max(above, 0)]], color="black", capsize=3)
                axes.text(middle, 100 * share.high + 2, f"{value:.0f}", ha="center", fontsize=FONT_SIZE - 1)
        axes.set_xticks(
            range(len(pair.possibilities)), [POSSIBILITY_LABELS[part.kind] for part in pair.possibilities]
        )
        axes.set_ylim(0, 115)
        axes.set_yticks(range(0, 101, 25))
        axes.set_ylabel("% called positive")
        paper = find_paper_row(pair.name)
        axes.set_title(pair.name if paper is None else paper.title)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
