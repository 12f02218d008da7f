"""ROC curves with their area, and training curves."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from covid_mm.evaluation.figures.canvas import BLUE, FONT_SIZE, GREY, ORANGE, SERIES, make_panels
from covid_mm.evaluation.paper_table import find_paper_row
from covid_mm.evaluation.results import NetworkResult

GROUPS = {"concatenated": None, "CT alone": "ct", "X-ray alone": "xray"}


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
    """Two panels a network, loss and accuracy, training and validation, the best epoch marked."""
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
