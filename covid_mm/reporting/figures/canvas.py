"""What all figures share: sizes, colours, panels, and saving the same bytes for the same numbers."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covid_mm.files import write_atomically

# Okabe and Ito's colours, told apart with any kind of colour vision
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9")
FONT_SIZE = 11.0  # points; a page shows a figure at about its own width
DPI = 110
_STYLE: Any = {
    "font.size": FONT_SIZE,
    # the first ships with matplotlib; where an SVG's reader has none of it, any sans-serif is narrower
    "font.family": ["DejaVu Sans", "sans-serif"],
    "svg.hashsalt": "covid_mm",
    "svg.fonttype": "none",  # labels stay text: found by a search, read out, selected
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": FONT_SIZE,
}


def make_panels(
    count: int, columns: int, *, width: float = 3.4, height: float = 3.2
) -> tuple[Figure, list[Axes]]:
    """A white figure with `count` panels of width x height inches."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained", facecolor="white")
        axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write `name`.png and `name`.svg; the same figure gives the same bytes."""
    with mpl.rc_context(_STYLE):
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            content = io.BytesIO()
            figure.savefig(content, format=kind, dpi=DPI, metadata=metadata)
            write_atomically(folder / f"{name}.{kind}", content.getvalue())
