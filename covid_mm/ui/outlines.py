"""The lungs' outline, and the box that the network read, drawn over an image of any size."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from covid_mm.serving.prediction import Box, Prediction

LUNGS_OUTLINE = "Lungs' outline"
DECIMALS = 4  # of a fraction of the image: a twentieth of a pixel on the largest map


def draw_outlines(prediction: Prediction, modality: str, said: str = "") -> str:
    """An SVG that covers the image: the lungs solid, the box dashed; empty where neither is known.

    said: what a screen reader reads; without it the drawing is left out there.
    """
    outlines, box = find_outlines(prediction, modality)
    if not outlines and box is None:
        return ""
    shapes = [f'<polygon points="{_join(outline)}"/>' for outline in outlines]
    if box is not None:
        x0, y0, x1, y1 = box
        shapes.append(
            f'<polygon class="mm-outline-box" points="{_join([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])}"/>'
        )
    role = f'role="img" aria-label="{escape(said)}"' if said else 'aria-hidden="true"'
    # each line twice: a dark one below keeps the bright one visible on white lungs and on the hottest colour
    under = f'<g class="mm-outline-under">{"".join(shapes)}</g>'
    frame = f'class="mm-outline" viewBox="0 0 1 1" preserveAspectRatio="none" {role}'
    return f"<svg {frame}>{under}<g>{''.join(shapes)}</g></svg>"


def find_outlines(
    prediction: Prediction, modality: str
) -> tuple[tuple[NDArray[np.float32], ...], Box | None]:
    """The closed polygons of a modality's lungs, (n, 2) fractions of the image, and the box that was read."""
    return tuple(prediction.outlines.get(modality, ())), prediction.lungs.get(modality)


def _join(points: Sequence[Sequence[float]] | NDArray[np.float32]) -> str:
    return " ".join(f"{float(x):.{DECIMALS}f},{float(y):.{DECIMALS}f}" for x, y in points)
