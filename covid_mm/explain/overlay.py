"""A heatmap as colours, laid over its image.

The colours are OpenCV's inferno: lightness rises with the value from end to end, so the map keeps
its order for colour-blind readers and in a greyscale print; jet and turbo do not.

A network knows a few cells, 10 x 10 of a whole lung, and a map between them is interpolated. What people look at
is drawn as those cells, or as lines along their borders, so that nobody takes a smooth colour for a pixel's truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covid_mm.errors import ImageError, UsageError
from covid_mm.imaging.lungs import Box

FULL_OPACITY_AT = 0.5  # value from which a pixel is as opaque as the caller asked
LEVELS = (0.1, 0.25, 0.5, 0.75)  # where lines are drawn: the lowest shows maps whose colour is hardly seen

Line = tuple[float, float, float, float]  # from x0, y0 to x1, y1 as fractions of the image


@dataclass(frozen=True)
class HeatCells:
    """A heatmap as the cells that its layer has. values: float32 (rows, columns), 0..1. box: where they lie."""

    values: NDArray[np.float32]
    box: Box = (0.0, 0.0, 1.0, 1.0)

    def draw(self, height: int, width: int) -> NDArray[np.float32]:
        """Each pixel with its cell's value, zero outside the box: float32 (height, width), 0..1."""
        x0, y0, x1, y1 = self.box
        left, right, top, bottom = (
            round(x0 * width),
            round(x1 * width),
            round(y0 * height),
            round(y1 * height),
        )
        size = (max(1, right - left), max(1, bottom - top))
        drawn = np.zeros((height, width), np.float32)
        cells = cv2.resize(self.values, size, interpolation=cv2.INTER_NEAREST_EXACT)
        drawn[top : top + size[1], left : left + size[0]] = cells[: height - top, : width - left]
        return drawn

    def find_corners(self, row: int, column: int) -> Box:
        """Where one cell lies, as fractions of the image."""
        x0, y0, x1, y1 = self.box
        rows, columns = self.values.shape
        wide, high = (x1 - x0) / columns, (y1 - y0) / rows
        return x0 + column * wide, y0 + row * high, x0 + (column + 1) * wide, y0 + (row + 1) * high

    def trace(self, level: float) -> list[Line]:
        """The borders between cells of at least this value and lower ones, or the box's edge; along the cells."""
        high = np.pad(self.values >= level, 1)
        lines: list[Line] = []
        for row, column in np.argwhere(high[1:, :] != high[:-1, :]):  # above a row: horizontal
            x0, y0, x1, _ = self.find_corners(int(row), int(column) - 1)
            lines.append((x0, y0, x1, y0))
        for row, column in np.argwhere(high[:, 1:] != high[:, :-1]):  # left of a column: vertical
            x0, y0, _, y1 = self.find_corners(int(row) - 1, int(column))
            lines.append((x0, y0, x0, y1))
        return lines


def find_cells(heatmap: NDArray[np.floating[Any]], shape: Sequence[int], box: Box | None = None) -> HeatCells:
    """The cells from which a map was interpolated, ends on ends (`cells.interpolation_matrix`).

    Cells are drawn of one size; each holds the point at which the map had its value.

    Args:
        heatmap: (height, width), any floating type, 0..1, in the frame of the whole image.
        shape: rows and columns of the layer's feature map.
        box: the part of the image that the network read; None for all of it.

    Raises:
        ImageError: a heatmap of another shape, type or range.
        UsageError: less than one row or column.
    """
    values = _check_heatmap(heatmap)
    rows, columns = (int(count) for count in shape)
    if min(rows, columns) < 1:
        raise UsageError(
            f"A heatmap has at least one cell, but {rows} x {columns} were named; name its layer's."
        )
    x0, y0, x1, y1 = box or (0.0, 0.0, 1.0, 1.0)
    height, width = values.shape
    across = np.clip(np.linspace(x0, x1, columns) * width - 0.5, round(x0 * width), round(x1 * width) - 1)
    down = np.clip(np.linspace(y0, y1, rows) * height - 0.5, round(y0 * height), round(y1 * height) - 1)
    x, y = np.meshgrid(across.astype(np.float32), down.astype(np.float32))
    cells = cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return HeatCells(np.clip(cells, 0.0, 1.0), (x0, y0, x1, y1))


def colour_heatmap(heatmap: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Colour of each value, dark (0) to bright (1).

    Args:
        heatmap: (height, width), any floating type, 0..1.

    Returns:
        uint8 RGB (height, width, 3), 0..255.

    Raises:
        ImageError: another shape or type, NaN, or values outside 0..1.
    """
    return _colour_levels(np.rint(_check_heatmap(heatmap) * 255.0).astype(np.uint8))


def blend_heatmap(
    image: NDArray[np.uint8], heatmap: NDArray[np.floating[Any]], opacity: float = 0.5
) -> NDArray[np.uint8]:
    """The image with the heatmap's colours laid over it, the more opaque the more evidence.

    A pixel's share of colour rises evenly from 0, where there is no evidence, to `opacity` at
    half of the scale, and stays there. An all-zero map or an opacity of 0 gives a copy of the
    image. Neither input is changed.

    Args:
        image: uint8 RGB (height, width, 3), 0..255.
        heatmap: floating (height, width) of the same height and width, 0..1; see `resize_heatmap`.
        opacity: largest share of the colour, 0..1.

    Returns:
        uint8 RGB (height, width, 3), 0..255.

    Raises:
        ImageError: an image or heatmap of another shape, type or range, or of different sizes.
        UsageError: an opacity outside 0..1.
    """
    picture = _check_image(image)
    values = _check_heatmap(heatmap)
    if picture.shape[:2] != values.shape:
        raise ImageError(
            f"Image and heatmap must have one height and width, but they have {picture.shape[:2]} and"
            f" {values.shape}; call resize_heatmap first."
        )
    if not 0.0 <= opacity <= 1.0:
        raise UsageError(f"Opacity must lie between 0 and 1, but is {opacity}.")
    share = (opacity * np.minimum(values / FULL_OPACITY_AT, 1.0))[..., np.newaxis]
    colours = colour_heatmap(values).astype(np.float32)
    blended: NDArray[np.float32] = picture.astype(np.float32) * (1.0 - share) + colours * share
    return np.rint(blended).astype(np.uint8)


def draw_colour_bar(height: int = 150, width: int = 12) -> NDArray[np.uint8]:
    """The scale's legend: 1 at the top, 0 at the bottom; lying (0 left, 1 right) where wider than high.

    Args:
        height, width: pixels; the longer side, at least 2, carries the scale.

    Returns:
        uint8 RGB (height, width, 3), 0..255.

    Raises:
        UsageError: a side below 1 or both sides below 2.
    """
    if min(height, width) < 1 or max(height, width) < 2:
        raise UsageError(
            f"A colour bar needs sides of at least 1 pixel and one of at least 2, but {height} x {width}"
            " was asked for."
        )
    if width > height:
        ramp = np.broadcast_to(np.linspace(0.0, 1.0, width, dtype=np.float32), (height, width))
    else:
        column = np.linspace(1.0, 0.0, height, dtype=np.float32)[:, np.newaxis]
        ramp = np.broadcast_to(column, (height, width))
    return colour_heatmap(ramp)


def resize_heatmap(heatmap: NDArray[np.floating[Any]], height: int, width: int) -> NDArray[np.float32]:
    """The heatmap at another size, as a rule that of the original image.

    Bilinear, so that no value leaves the range of its neighbours. Shrinking averages areas
    instead, so that no evidence falls between the samples.

    Args:
        heatmap: (h, w), any floating type, 0..1.
        height, width: wanted pixels, at least 1 each.

    Returns:
        float32 (height, width), 0..1.

    Raises:
        ImageError: a heatmap of another shape, type or range.
        UsageError: a side below 1.
    """
    values = _check_heatmap(heatmap)
    if min(height, width) < 1:
        raise UsageError(
            f"A heatmap needs at least 1 pixel per side, but {height} x {width} was asked for; "
            "give the height and width of the image."
        )
    shrinks = height < values.shape[0] and width < values.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: NDArray[np.float32] = cv2.resize(values, (width, height), interpolation=method)
    return np.clip(resized, 0.0, 1.0)  # rounding may leave the range by an ulp


def _colour_levels(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB of 0..255 levels; OpenCV answers in BGR order."""
    bgr: NDArray[np.uint8] = cv2.applyColorMap(np.ascontiguousarray(levels), cv2.COLORMAP_INFERNO)
    return np.ascontiguousarray(bgr[..., ::-1])


def _check_heatmap(heatmap: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """A float32 copy of the heatmap, or an error."""
    values = np.asarray(heatmap)
    if values.ndim != 2 or values.size == 0 or not np.issubdtype(values.dtype, np.floating):
        raise ImageError(
            "A heatmap must be a floating array of shape (height, width), but this one is"
            f" {values.dtype} of shape {values.shape}."
        )
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("A heatmap must be finite, but this one holds NaN or infinity: check the network.")
    if low < 0.0 or high > 1.0:
        raise ImageError(
            f"A heatmap must lie within 0..1, but this one reaches from {low:g} to {high:g};"
            " divide it by the checkpoint's heatmap scale and clip it."
        )
    return values.astype(np.float32)


def _check_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image itself, or an error."""
    picture = np.asarray(image)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0 or picture.dtype != np.uint8:
        raise ImageError(
            "The image under a heatmap must be uint8 RGB of shape (height, width, 3), but this one is"
            f" {picture.dtype} of shape {picture.shape}."
        )
    return picture
