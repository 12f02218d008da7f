"""Does the heat lie on the lesion? Pointing game and shares of heat, with the level of chance beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_mm.errors import DataError
from covid_mm.evaluation.intervals import wilson_interval
from covid_mm.json_record import JsonRecord


@dataclass(frozen=True)
class HeatMeasure:
    """One map against one image's masks.

    hit: the hottest point lies in the target. area: the target's share of the frame, the chance of a
    hit by a random point. heat_share: the share of heat in the target. in_lungs, in_lungs_share: the
    same of the lungs; None where they are not known. A map without heat is a miss with shares of 0.
    """

    hit: bool
    area: float
    heat_share: float
    in_lungs: bool | None
    in_lungs_share: float | None


@dataclass(frozen=True)
class HeatRow(JsonRecord):
    """One method and layer on one collection; all shares 0..1, means over images.

    hit, hit_low, hit_high: images whose hottest point lies in the target, with Wilson's 95 % interval.
    chance: mean area of the targets. in_lungs_hit, in_lungs_share: over images with known lungs, else None.
    """

    method: str
    layer: str
    collection: str
    images: int
    hit: float
    hit_low: float
    hit_high: float
    chance: float
    heat_share: float
    in_lungs_hit: float | None
    in_lungs_share: float | None


def find_hottest(heatmap: ArrayLike) -> tuple[int, int] | None:
    """Row and column of the map's greatest value; None for a map that is zero everywhere.

    Of several equal ones the nearest to their centre of mass, then the first in reading order.

    Raises:
        DataError: see `check_heatmap`.
    """
    heat = check_heatmap(heatmap)
    if heat.max() <= 0:
        return None
    points = np.argwhere(heat == heat.max())
    distances = np.sum((points - points.mean(axis=0)) ** 2, axis=1)
    row, column = points[np.argmin(np.round(distances, 9))]
    return int(row), int(column)


def measure_heat(
    heatmap: ArrayLike, target: ArrayLike, lungs: ArrayLike | None = None, *, tolerance: float = 0.0
) -> HeatMeasure:
    """One map (h, w), 0 or more, against the target's and the lungs' masks (h, w).

    tolerance: pixels; a point this near to the target is a hit too. The chance level takes the
    widened target, the share of heat the target itself.

    Raises:
        DataError: masks of another shape, an empty target, a negative or infinite map.
    """
    heat = check_heatmap(heatmap)
    goal = _check_mask(target, heat.shape, "target")
    if not goal.any():
        raise DataError("Expected a target of at least one pixel, but it is empty; leave the image out.")
    wide = _widen(goal, tolerance)
    region = None if lungs is None else _check_mask(lungs, heat.shape, "lungs")
    point = find_hottest(heat)
    total = float(heat.sum())
    return HeatMeasure(
        hit=point is not None and bool(wide[point]),
        area=float(wide.mean()),
        heat_share=float(heat[goal].sum()) / total if point else 0.0,
        in_lungs=None if region is None else point is not None and bool(region[point]),
        in_lungs_share=None if region is None else float(heat[region].sum()) / total if point else 0.0,
    )


def summarise_heat(measures: Sequence[HeatMeasure], *, method: str, layer: str, collection: str) -> HeatRow:
    """One row of many images' measures.

    Raises:
        DataError: no measure.
    """
    if not measures:
        raise DataError(f"Expected at least one image of {collection} with a target, but there is none.")
    hits = sum(part.hit for part in measures)
    low, high = wilson_interval(hits, len(measures))
    inside = [part.in_lungs for part in measures if part.in_lungs is not None]
    shares = [part.in_lungs_share for part in measures if part.in_lungs_share is not None]
    return HeatRow(
        method=method,
        layer=layer,
        collection=collection,
        images=len(measures),
        hit=hits / len(measures),
        hit_low=low,
        hit_high=high,
        chance=float(np.mean([part.area for part in measures])),
        heat_share=float(np.mean([part.heat_share for part in measures])),
        in_lungs_hit=float(np.mean(inside)) if inside else None,
        in_lungs_share=float(np.mean(shares)) if shares else None,
    )


def check_heatmap(heatmap: ArrayLike) -> NDArray[np.float64]:
    """The map as float64 (h, w).

    Raises:
        DataError: other shapes, no pixel, negative, NaN or infinite values.
    """
    heat: NDArray[np.float64] = np.asarray(heatmap, dtype=np.float64)
    if heat.ndim != 2 or heat.size == 0 or not np.isfinite(heat).all() or heat.min() < 0:
        raise DataError(
            f"Expected a heatmap (height, width) of finite values of 0 or more, but got shape {heat.shape}"
            " or values that are not."
        )
    return heat


def _check_mask(mask: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.bool_]:
    values: NDArray[np.bool_] = np.asarray(mask, dtype=np.bool_)
    if values.shape != shape:
        raise DataError(
            f"Expected a {name} mask of the map's shape {shape}, but got {values.shape}; bring both to one"
            " frame first."
        )
    return values


def _widen(mask: NDArray[np.bool_], tolerance: float) -> NDArray[np.bool_]:
    if tolerance <= 0:
        return mask
    from scipy.ndimage import distance_transform_edt

    near: NDArray[np.bool_] = distance_transform_edt(~mask) <= tolerance
    return near
