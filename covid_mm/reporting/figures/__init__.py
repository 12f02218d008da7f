"""The figures of results/, each as PNG and SVG, drawn from results.json without training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from covid_mm.evaluation.results import Results
from covid_mm.reporting.figures.architecture import draw_architecture
from covid_mm.reporting.figures.canvas import save_figure
from covid_mm.reporting.figures.generalisation import draw_generalisation
from covid_mm.reporting.figures.results import (
    draw_confusion_matrices,
    draw_examples,
    draw_possibilities,
    draw_roc_curves,
    draw_training_curves,
)

__all__ = ["draw_results"]


def draw_results(
    results: Results,
    folder: Path,
    *,
    examples: Mapping[tuple[str, str], NDArray[Any]],
    examples_are: str,
) -> None:
    """Write every figure into `folder`, each beside its place and renamed.

    examples: grey images (side, side) 0..255 by (modality, class name), for Figure 1.
    examples_are: what they are, as the figure says (`training images` or `phantoms`).
    """
    save_figure(draw_examples(results, examples, examples_are), folder, "figure-1-data")
    save_figure(draw_architecture(), folder, "figure-2-architecture")
    if (figure := draw_generalisation(results)) is not None:
        save_figure(figure, folder, "generalisation")
    for protocol in results.protocols:
        networks = [network for network in results.networks if network.protocol == protocol]
        pairs = [network for network in networks if network.is_concatenated]
        singles = [network for network in networks if not network.is_concatenated]
        for number, group in ((3, pairs), (4, singles)):
            if group:
                save_figure(draw_confusion_matrices(group), folder, f"figure-{number}-{protocol}")
        save_figure(draw_roc_curves(networks), folder, f"roc-{protocol}")
        save_figure(draw_training_curves(networks), folder, f"training-{protocol}")
        if any(pair.possibilities for pair in pairs):
            save_figure(draw_possibilities(pairs), folder, f"possibilities-{protocol}")
