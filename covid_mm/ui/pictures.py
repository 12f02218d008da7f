"""Arrays and outlines as pictures inside the page: data URLs and SVG, so that no file is written or served."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from covid_mm.explain.overlay import (
    FULL_OPACITY_AT,
    LEVELS,
    HeatCells,
    colour_heatmap,
    draw_colour_bar,
    resize_heatmap,
)
from covid_mm.imaging.lungs import Box
from covid_mm.serving.prediction import Prediction

PREVIEW_SIZE = 384  # pixels of the longer side, enough for the page's frames on a fine screen
THUMBNAIL = 56  # pixels of the longer side; a study's two pictures take about 8 kB
OPACITY = 0.6  # largest share of the heatmap's colour


@dataclass(frozen=True)
class Preview:
    """One image as the page shows it.

    url: data URL of the image, PNG. width, height: pixels, in the image's own proportions.
    """

    url: str
    width: int
    height: int


def make_preview(grey: NDArray[np.float32], longest: int = PREVIEW_SIZE) -> Preview:
    """The original image for the screen: float (height, width), 0..255, made smaller where it is larger."""
    height, width = grey.shape
    scale = min(1.0, longest / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if scale < 1.0:
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    pixels = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return Preview(encode_png(pixels), *size)


def make_thumbnail(grey: NDArray[np.uint8]) -> Preview:
    """A picture of THUMBNAIL pixels on its longer side, in its own proportions; uint8 (height, width)."""
    scale = THUMBNAIL / max(grey.shape)
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return Preview(encode_png(cv2.resize(grey, (width, height), interpolation=method)), width, height)


def make_heat_layer(heatmap: NDArray[np.floating[Any]], opacity: float = OPACITY) -> str:
    """The heatmap as a layer to lay over the image: data URL of an RGBA PNG.

    Laid over, it gives what `explain.overlay.blend_heatmap` gives: clear without evidence, and
    from half of the scale on `opacity` opaque. It is no larger than the view that it lies on; the
    browser brings it to the image's size.
    """
    height, width = heatmap.shape
    if (scale := PREVIEW_SIZE / max(height, width)) < 1.0:
        heatmap = resize_heatmap(heatmap, max(1, round(height * scale)), max(1, round(width * scale)))
    share = opacity * np.minimum(heatmap / FULL_OPACITY_AT, 1.0)
    alpha = np.rint(share * 255.0).astype(np.uint8)
    return encode_png(np.dstack([colour_heatmap(heatmap), alpha]))


_SCALE = 1000  # units of a drawing's side
_PENS = (
    ("#fff3b0", 1.0),
    ("#ffd54a", 1.5),
    ("#ffa02e", 2.25),
    ("#ff6a3d", 3.5),
)  # colour, CSS pixels at `LEVELS`
_DRAWING = (
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{_SCALE}" height="{_SCALE}" viewBox="0 0 {_SCALE} {_SCALE}"'
    ' preserveAspectRatio="none">{}</svg>'
)
_THIN = 'vector-effect="non-scaling-stroke"'  # lines keep their width however large the drawing
_LEAST = 0.01  # of the scale: cells with less are left out


def draw_cells(cells: HeatCells) -> str:
    """The cells as a layer to lay over the image, as `make_heat_layer` at opacity 1, each with its border: SVG."""
    shapes = []
    for (row, column), value in np.ndenumerate(cells.values):
        if value < _LEAST:
            continue
        x0, y0, x1, y1 = (_SCALE * side for side in cells.find_corners(row, column))
        red, green, blue = colour_heatmap(np.full((1, 1), value, np.float32))[0, 0]
        opacity = min(value / FULL_OPACITY_AT, 1.0)
        shapes.append(
            f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" {_THIN}'
            f' fill="#{red:02x}{green:02x}{blue:02x}" fill-opacity="{opacity:.3f}"/>'
        )
    style = 'shape-rendering="crispEdges" stroke="#fff" stroke-opacity="0.4" stroke-width="1"'
    return _to_svg_url(f"<g {style}>{''.join(shapes)}</g>")


def draw_lines(cells: HeatCells) -> str:
    """Lines of equal evidence along the cells' borders at `LEVELS`, thicker where there is more: SVG."""
    under, over = [], []
    for level, (colour, width) in zip(LEVELS, _PENS, strict=True):
        points = [[_SCALE * side for side in line] for line in cells.trace(level)]
        path = "".join(f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" for x0, y0, x1, y1 in points)
        if path:
            shape = f'<path d="{path}" {_THIN} stroke="{{}}" stroke-width="{{}}"/>'
            under.append(shape.format("#000", width + 2))
            over.append(shape.format(colour, width))
    style = 'fill="none" stroke-linecap="square"'
    return _to_svg_url(f'<g {style} stroke-opacity="0.7">{"".join(under)}</g><g {style}>{"".join(over)}</g>')


def _to_svg_url(shapes: str) -> str:
    return to_data_url(_DRAWING.format(shapes).encode(), "image/svg+xml")


def make_colour_bar() -> str:
    """The heatmap's legend lying down, 0 left and 1 right: data URL of a PNG."""
    return encode_png(draw_colour_bar(height=1, width=128))


def encode_png(pixels: NDArray[np.uint8]) -> str:
    """Data URL of a lossless PNG: uint8 (h, w) grey, (h, w, 3) RGB or (h, w, 4) RGBA."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return to_data_url(buffer.getvalue(), "image/png")


def to_data_url(data: bytes, kind: str) -> str:
    """Bytes inside the page: no file is written or served."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


LUNGS_OUTLINE = "Lungs' outline"
DECIMALS = 4  # of a fraction of the image: a twentieth of a pixel on the largest map


def draw_outlines(prediction: Prediction, modality: str, label: str = "") -> Markup:
    """An SVG that covers the image: the lungs solid, the box dashed; empty where neither is known.

    label: what a screen reader reads; without it the drawing is left out there.
    """
    outlines, box = find_outlines(prediction, modality)
    if not outlines and box is None:
        return Markup()
    shapes = Markup().join(Markup('<polygon points="{}"/>').format(_join(outline)) for outline in outlines)
    if box is not None:
        x0, y0, x1, y1 = box
        corners = _join([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        shapes += Markup('<polygon class="mm-outline-box" points="{}"/>').format(corners)
    role = Markup('role="img" aria-label="{}"').format(label) if label else Markup('aria-hidden="true"')
    # each line twice: a dark one below keeps the bright one visible on white lungs and on the hottest colour
    return Markup(
        '<svg class="mm-outline" viewBox="0 0 1 1" preserveAspectRatio="none" {role}>'
        '<g class="mm-outline-under">{shapes}</g><g>{shapes}</g></svg>'
    ).format(role=role, shapes=shapes)


def find_outlines(
    prediction: Prediction, modality: str
) -> tuple[tuple[NDArray[np.float32], ...], Box | None]:
    """The closed polygons of a modality's lungs, (n, 2) fractions of the image, and the box that was read."""
    return tuple(prediction.outlines.get(modality, ())), prediction.lungs.get(modality)


def _join(points: Sequence[Sequence[float]] | NDArray[np.float32]) -> str:
    return " ".join(f"{float(x):.{DECIMALS}f},{float(y):.{DECIMALS}f}" for x, y in points)
