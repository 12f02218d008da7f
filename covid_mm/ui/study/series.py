"""A CT scan in the result: a curve of probability per slice over a slider, the most suspicious slices, the extent."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup

from covid_mm.serving.prediction import ScanAnswer
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.study.analysis import Analysis
from covid_mm.ui.study.evidence import format_probability
from covid_mm.ui.templates import render_template

EXTENT = (
    "{positive} of {lung} slices with lung ({percent} %) are called positive, each by itself. This share says how far"
    " the findings reach; it is not a score of severity."
)
NO_EXTENT = "No slice was read, so there is no extent."
WORDS = {  # of series.js
    "slice": "Slice {number} of {total}",
    "lung": "{shown} by itself",
    "none": "no lung read",
    "window": "window level {level}, width {width} HU",
    "drawing": "Drawing the map of this slice…",
}


def render_series(analysis: Analysis, texts: Texts = ENGLISH) -> tuple[Markup, Markup]:
    """What stands above a scan's image and map, curve and slider, and what below: thumbnails, extent.

    Both are empty where the CT is one slice.
    """
    scan = analysis.prediction.scan
    if scan is None:
        return Markup(), Markup()
    supported = (
        analysis.prediction.branches["ct"].supported_probability if analysis.prediction.branches else 1.0
    )
    shown = {
        one.index: format_probability(one.probability, supported, texts)
        for one in scan.slices
        if one.probability is not None
    }
    curve = render_template(
        "study/series.html",
        texts,
        count=len(scan.slices),
        index=scan.slice,
        line=describe_slice(scan, texts),
        said=texts(WORDS["lung"], shown=shown[scan.slice]) if scan.slice in shown else texts(WORDS["none"]),
        data=json.dumps(
            {
                "probabilities": [one.probability for one in scan.slices],
                "positions": [one.position_mm for one in scan.slices],
                "shown": shown,
                "window": None if scan.window is None else [scan.window.level, scan.window.width],
                "words": {name: texts(text) for name, text in WORDS.items()},
                "decimal": texts.decimal,
            }
        ),
        lines=list(_draw_lines(scan)),
        gaps=list(_find_gaps(scan)),
        threshold=scan.threshold,
    )
    more = render_template(
        "study/suspicious_slices.html",
        texts,
        index=scan.slice,
        extent=describe_extent(scan, texts),
        thumbnails=[
            (index, preview, texts("Slice {number}", number=index + 1), shown.get(index, ""))
            for index, preview in analysis.thumbnails.items()
        ],
    )
    return curve, more


def describe_slice(scan: ScanAnswer, texts: Texts = ENGLISH) -> str:
    """Which slice the map is of, where it lies, and the window: one line for page and report."""
    parts = [texts(WORDS["slice"], number=scan.slice + 1, total=len(scan.slices))]
    position = scan.slices[scan.slice].position_mm
    if position is not None:
        parts.append(f"{texts.number(position, 1)} mm")
    if scan.window is not None:
        level, width = f"{scan.window.level:g}", f"{scan.window.width:g}"
        parts.append(texts(WORDS["window"], level=level, width=width))
    return ", ".join(parts)


def describe_extent(scan: ScanAnswer, texts: Texts = ENGLISH) -> str:
    """How far the findings reach, with the words that this is no score of severity."""
    if scan.extent is None:
        return texts(NO_EXTENT)
    return texts(
        EXTENT, positive=scan.positive_slices, lung=scan.lung_slices, percent=round(100 * scan.extent)
    )


def _draw_lines(scan: ScanAnswer) -> Any:
    """The curve as points `x,y x,y` in a box of (slices, 100), one line for each run of slices that were read."""
    points: list[str] = []
    for one in scan.slices:
        if one.probability is not None:
            points.append(f"{one.index + 0.5:g},{100 - 100 * one.probability:.1f}")
        elif points:
            yield _widen(points)
            points = []
    if points:
        yield _widen(points)


def _widen(points: list[str]) -> str:
    """A run of one slice is a short line, or it would not be seen."""
    if len(points) > 1:
        return " ".join(points)
    x, y = points[0].split(",")
    return f"{float(x) - 0.4:g},{y} {float(x) + 0.4:g},{y}"


def _find_gaps(scan: ScanAnswer) -> Any:
    """(first, count) of each run of slices without lung."""
    start = None
    for index, lung in enumerate([*(one.lung for one in scan.slices), True]):
        if not lung and start is None:
            start = index
        elif lung and start is not None:
            yield start, index - start
            start = None
