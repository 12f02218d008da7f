"""Examples with their histograms: the paper's Figure 1, and the mean histogram of all training images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from covid_mm.config import CLASS_TITLES, CLASSES, MODALITIES, MODALITY_TITLES
from covid_mm.evaluation.figures.canvas import BLUE, FONT_SIZE, ORANGE, make_panels
from covid_mm.evaluation.results import HISTOGRAM_BINS, DataSummary, Results

_EDGES = np.linspace(0.0, 255.0, HISTOGRAM_BINS + 1)


def draw_examples(
    results: Results, examples: Mapping[tuple[str, str], NDArray[Any]], examples_are: str
) -> Figure:
    """A row a modality and class: the example, its histogram, and the training images' mean one."""
    rows = [(m, c) for m in MODALITIES for c in CLASSES if (m, c) in examples]
    figure, panels = make_panels(3 * len(rows), columns=3, width=3.5, height=2.8)
    for index, (modality, name) in enumerate(rows):
        picture, own, mean = panels[3 * index : 3 * index + 3]
        image = np.asarray(examples[modality, name])
        picture.imshow(image, cmap="gray", vmin=0, vmax=255)
        picture.set_axis_off()
        picture.set_title(f"{MODALITY_TITLES[modality]}: {CLASS_TITLES[name]}\n({examples_are})")
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
