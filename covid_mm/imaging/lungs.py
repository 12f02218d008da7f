"""The lungs of one image: where they are, the crop that shows them, and grey levels set by their own tissue.

Hospitals differ in window, field of view, borders and burnt-in text far more than patients differ in
their lungs; a network that is shown only the lungs, always as dark and as bright, cannot go by the
rest. One function for training and serving. The lungs are named by a probability map
(`models.lung_segmenter`); nothing here needs a network.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import MODALITIES, ImageKind, Modality
from covid_mm.errors import ImageError

Box = tuple[float, float, float, float]

_GRID = 256  # side of the raster in which a region is measured, and its hull kept
_LEAST_AREA: dict[ImageKind, float] = {"slice": 0.006, "film": 0.05}  # share of the image, both lungs
_LEAST_COMPONENT = 0.12  # of the largest component's area: smaller ones are bowel gas, airways, text
_VESSELS = 9  # of the grid's pixels: vessels and airways up to this width are lung
_MARGIN = 0.06  # of the box's sides, added all round
_SLICE_HULL = 0.04  # of the image's side: how far beyond the lungs a slice's crop still shows tissue
_SLICE_LEVELS = (40.0, 190.0)  # grey of dark lung and of soft tissue
_MEASURED = 128  # pixels per side of the crop on which grey levels are measured
_CALM = 1.5  # of these pixels: deviation of the blur before a slice's level of dark lung is measured
_FILM_LEVELS = (16.0, 235.0)  # grey of the darkest lung and of the brightest tissue beside it


@dataclass(frozen=True)
class LungRegion:
    """Where the lungs lie in an image, as fractions of its width and height.

    box: x0, y0, x1, y1 of what the network reads, margin included. outline: closed polygons
    (n, 2) of x, y, float32, one per lung (or one where both touch). lungs: bool (256, 256) over
    the whole image. shown: bool (256, 256), of a slice the lungs with a rim that no lesion can reach beyond, of a
    film all.
    """

    box: Box
    outline: tuple[NDArray[np.float32], ...]
    lungs: NDArray[np.bool_]
    shown: NDArray[np.bool_]


def find_region(probability: NDArray[np.float32], modality: Modality) -> LungRegion | None:
    """The lungs that a probability map shows; None where it shows none.

    Args:
        probability: (rows, columns) 0..1 over the whole image.
        modality: a CT slice may show little lung, a frontal film never does.
    """
    smooth = cv2.resize(
        np.ascontiguousarray(probability, np.float32), (_GRID, _GRID), interpolation=cv2.INTER_LINEAR
    )
    count, parts = cv2.connectedComponents((smooth >= 0.5).astype(np.uint8), ltype=cv2.CV_16U)
    if count < 2:
        return None
    areas = cv2.calcHist([parts], [0], None, [count], [0, count]).ravel()[1:]  # without the background
    lungs = np.take(np.append(False, areas >= _LEAST_COMPONENT * areas.max()), parts)
    if np.count_nonzero(lungs) < _LEAST_AREA[MODALITIES[modality].kind] * lungs.size:
        return None
    contours, _ = cv2.findContours(lungs.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rows, columns = np.flatnonzero(lungs.any(axis=1)), np.flatnonzero(lungs.any(axis=0))
    shown = np.ones((_GRID, _GRID), np.bool_)
    if MODALITIES[modality].kind == "slice":
        hull = np.zeros((_GRID, _GRID), np.uint8)
        for contour in contours:
            cv2.fillConvexPoly(hull, cv2.convexHull(contour), 1)  # a consolidation at the pleura stays inside
        reach = round(_SLICE_HULL * _GRID)
        rim = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        near = slice(max(rows[0] - reach, 0), rows[-1] + reach + 1)  # whole rows, which OpenCV does fastest
        hull[near] = cv2.dilate(hull[near], rim)
        shown = hull.astype(np.bool_)
    x0, x1, y0, y1 = (v / _GRID for v in (columns[0], columns[-1] + 1, rows[0], rows[-1] + 1))
    wide, high = _MARGIN * (x1 - x0), _MARGIN * (y1 - y0)
    return LungRegion(
        box=(
            float(max(x0 - wide, 0.0)),
            float(max(y0 - high, 0.0)),
            float(min(x1 + wide, 1.0)),
            float(min(y1 + high, 1.0)),
        ),
        outline=tuple((contour[:, 0, :] + 0.5).astype(np.float32) / _GRID for contour in contours),
        lungs=lungs,
        shown=shown,
    )


def find_dark_regions(grey: NDArray[np.float32], modality: Modality) -> LungRegion | None:
    """The lungs of a CT slice (height, width) by grey levels alone: dark regions in the body that reach no corner.

    The threshold is Otsu's, without pixels that are exactly black (padding, round fields of view); the body is
    the convex hull of the largest bright region. Consolidated lung is left out.
    """
    small = cv2.resize(np.ascontiguousarray(grey, np.float32), (_GRID, _GRID), interpolation=cv2.INTER_AREA)
    levels = np.clip(np.rint(small), 0, 255).astype(np.uint8)
    if not levels.any():
        return None
    threshold, _ = cv2.threshold(levels[levels > 0][:, None], 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    count, parts, stats, _ = cv2.connectedComponentsWithStats((levels > threshold).astype(np.uint8))
    if count < 2:
        return None
    body = parts == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    hull = fill_hull(body)
    _, parts = cv2.connectedComponents((levels <= threshold).astype(np.uint8))
    corners = {int(parts[row, column]) for row in (0, -1) for column in (0, -1)}
    lungs = ((parts > 0) & ~np.isin(parts, list(corners)) & hull).astype(np.float32)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_VESSELS, _VESSELS))
    return find_region(np.asarray(cv2.morphologyEx(lungs, cv2.MORPH_CLOSE, disc), np.float32), modality)


def fill_hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The convex hull of all that a mask (height, width) holds, which is something, of the same shape."""
    hull = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.argwhere(mask)[:, ::-1].astype(np.int32)), 1)
    return hull.astype(np.bool_)


def read_lungs(
    grey: NDArray[np.float32], region: LungRegion, modality: Modality, size: int, room: float = 0.0
) -> NDArray[np.float32]:
    """The crop that the network reads: float32, 0..255, aspect ratio not kept, (size, size) without room.

    Two grey levels are fixed. Slice: dark lung (10th percentile in the smoothed lungs) and soft tissue (median
    of what is bright around them); what lies beyond the lungs and their rim becomes soft tissue.
    Film: the 2nd percentile in the lungs and the 98th of the crop; nothing is masked.

    Args:
        room: share of the box's sides that is shown beyond it all round, at the same scale and grey
            levels, so that training can move the frame: (size (1 + 2 room), the same) then.

    Raises:
        ImageError: an image that is not grey (height, width).
    """
    if grey.ndim != 2 or grey.size == 0:
        raise ImageError(f"Expected a grey image (height, width), got an array of shape {grey.shape}.")
    if modality not in MODALITIES:
        raise ImageError(f"Expected an image of {' or '.join(MODALITIES)}, got one of {modality!r}.")
    is_slice = MODALITIES[modality].kind == "slice"
    dark, bright = _find_levels(grey, region, modality)
    x0, y0, x1, y1 = region.box
    wide, high = room * (x1 - x0), room * (y1 - y0)
    frame = (x0 - wide, y0 - high, x1 + wide, y1 + high)
    side = round(size * (1 + 2 * room))
    crop = _cut(grey, frame, side)
    low, top = _SLICE_LEVELS if is_slice else _FILM_LEVELS
    levelled = np.clip((crop - dark) * ((top - low) / (bright - dark)) + low, 0.0, 255.0)
    if is_slice:
        shown = _cut(region.shown.astype(np.float32), frame, side)
        levelled = levelled * shown + top * (1.0 - shown)
    return np.asarray(levelled, np.float32)


def cut_map(mask: NDArray[np.float32], box: Box, size: int, room: float = 0.0) -> NDArray[np.float32]:
    """A mask or map of the whole image (height, width), 0..1, in the frame that `read_lungs` gives."""
    wide, high = room * (box[2] - box[0]), room * (box[3] - box[1])
    frame = (box[0] - wide, box[1] - high, box[2] + wide, box[3] + high)
    return _cut(mask, frame, round(size * (1 + 2 * room)), border=cv2.BORDER_CONSTANT)


def cut_lungs(region: LungRegion, size: int, room: float = 0.0) -> NDArray[np.float32]:
    """The lungs as they were found, 0..1, in the frame that `read_lungs` gives."""
    return cut_map(region.lungs.astype(np.float32), region.box, size, room)


def place_in_image(values: NDArray[np.float32], box: Box, height: int, width: int) -> NDArray[np.float32]:
    """A map of the crop (s, s) in its place in an image: float32 (height, width), zero outside the box."""
    image = np.zeros((height, width), np.float32)
    x0, x1 = (round(v * width) for v in (box[0], box[2]))
    y0, y1 = (round(v * height) for v in (box[1], box[3]))
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    image[y0:y1, x0:x1] = cv2.resize(
        np.ascontiguousarray(values, np.float32), (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR
    )[: height - y0, : width - x0]
    return image


def _find_levels(grey: NDArray[np.float32], region: LungRegion, modality: Modality) -> tuple[float, float]:
    """The image's grey of dark lung and of bright tissue beside it, at least 8 levels apart."""
    crop = _cut(grey, region.box, _MEASURED)
    lungs = _cut(region.lungs.astype(np.float32), region.box, _MEASURED) >= 0.5
    inside, outside = crop[lungs], crop[~lungs]
    if MODALITIES[modality].kind == "film":
        dark = find_percentiles(inside, 2)[0] if inside.size else float(crop.min())
        return dark, max(find_percentiles(crop, 98)[0], dark + 8.0)
    # noise and sharp kernels widen the lungs' greys, and would make their 10th percentile too dark
    calm = cv2.GaussianBlur(crop, (0, 0), _CALM)[lungs]
    dark = find_percentiles(calm, 10)[0] if calm.size else float(crop.min())
    top = find_percentiles(crop, 99)[0]
    bright = outside[outside > dark + 0.35 * (top - dark)]  # not the air around the body
    soft = float(np.median(bright)) if bright.size else top
    return dark, max(soft, dark + 8.0)


def find_percentiles(values: NDArray[np.float32], *percents: float) -> list[float]:
    """As `np.percentile`, whose checks cost more than the numbers of so small an image. values: one at least."""
    found = []
    for percent in percents:
        position = percent / 100 * (values.size - 1)
        below = int(position)
        above = min(below + 1, values.size - 1)
        ordered = np.partition(values, above, axis=None)  # one place: NumPy finds several much slower
        low, high = float(ordered[: below + 1].max()), float(ordered[above])
        found.append(low + (position - below) * (high - low))
    return found


def _cut(
    image: NDArray[np.float32], box: Box, side: int, border: int = cv2.BORDER_REPLICATE
) -> NDArray[np.float32]:
    """The box of an image, which may reach beyond it, at (side, side)."""
    height, width = image.shape
    x0, y0 = box[0] * width, box[1] * height
    across, down = (box[2] - box[0]) * width, (box[3] - box[1]) * height
    values = np.ascontiguousarray(image, np.float32)
    shrink = max(across, down) / side
    if shrink > 1.5:  # average first, so that nothing is aliased
        factor = 1.0 / shrink
        values = cv2.resize(values, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        sx, sy = values.shape[1] / width, values.shape[0] / height
        x0, y0, across, down = x0 * sx, y0 * sy, across * sx, down * sy
    matrix = np.array(
        [
            [across / side, 0.0, x0 + 0.5 * across / side - 0.5],
            [0.0, down / side, y0 + 0.5 * down / side - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(values, matrix, (side, side), flags=flags, borderMode=border), np.float32
    )
