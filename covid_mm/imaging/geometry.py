"""Where the slices of a DICOM file lie in the patient: PS3.3, C.7.6.2.1 and, of multi-frame files, C.7.6.16."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAST_AXIAL = 0.8  # of the normal along the body: a gantry is tilted by 30 degrees at most
_RESCALE = ("RescaleSlope", "RescaleIntercept")


@dataclass(frozen=True)
class SliceGeometry:
    """Where a file's frames lie.

    positions: of each frame along its normal, in millimetres, None where the file does not say.
    number: in the series, 0 where there is none. axial: whether frames are cut across the body, None where the file
    does not say. localizer: a scout view, by its image type.
    """

    positions: tuple[float | None, ...]
    number: float
    axial: bool | None
    localizer: bool


def read_geometry(dataset: Any, frames: int) -> SliceGeometry:
    """What a dataset says of its frames; what makes no sense counts as not said."""
    groups = [_find_groups(dataset, frame) for frame in range(frames)]
    normals = [_read_normal(group) for group in groups]
    positions = tuple(_read_position(group, normal) for group, normal in zip(groups, normals, strict=True))
    known = [normal for normal in normals if normal is not None]
    kinds = [str(value).upper() for value in _as_list(dataset.get("ImageType"))]
    try:
        number = float(dataset.get("InstanceNumber") or 0.0)
    except (TypeError, ValueError):
        number = 0.0
    return SliceGeometry(
        positions=positions,
        number=number if math.isfinite(number) else 0.0,
        axial=all(abs(normal[2]) >= _LEAST_AXIAL for normal in known) if known else None,
        localizer="LOCALIZER" in kinds,
    )


def raise_shared_rescale(dataset: Any) -> None:
    """Copy slope and intercept of a multi-frame file to where those of other files stand.

    Only where all its frames have the same: others stay without, as if they had none.
    """
    if "RescaleSlope" in dataset or "SharedFunctionalGroupsSequence" not in dataset:
        return
    rows = [
        _find_item(dataset, group, "PixelValueTransformationSequence") for group in range(_count(dataset))
    ]
    values = {tuple(str(row.get(name)) for name in _RESCALE) for row in rows if row is not None}
    if len(values) == 1 and None not in rows and all(name in rows[0] for name in _RESCALE):
        for name in _RESCALE:
            setattr(dataset, name, rows[0][name].value)


def _count(dataset: Any) -> int:
    return max(1, len(dataset.get("PerFrameFunctionalGroupsSequence") or ()))


def _find_item(dataset: Any, frame: int, name: str) -> Any:
    """A macro of one frame: its own, or the one that all frames share; None without."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    for group in (*own[frame : frame + 1], *shared[:1]):
        if name in group and len(group[name].value):
            return group[name].value[0]
    return None


def _find_groups(dataset: Any, frame: int) -> tuple[Any, Any]:
    """What holds a frame's position, and what its orientation."""
    position = _find_item(dataset, frame, "PlanePositionSequence")
    orientation = _find_item(dataset, frame, "PlaneOrientationSequence")
    return (dataset if position is None else position, dataset if orientation is None else orientation)


def _read_normal(group: tuple[Any, Any]) -> NDArray[np.float64] | None:
    values = _to_numbers(group[1].get("ImageOrientationPatient"), 6)
    if values is None:
        return None
    normal = np.cross(values[:3], values[3:])
    length = float(np.linalg.norm(normal))
    return normal / length if length > 0.1 else None


def _read_position(group: tuple[Any, Any], normal: NDArray[np.float64] | None) -> float | None:
    corner = _to_numbers(group[0].get("ImagePositionPatient"), 3)
    if corner is None or normal is None:
        return None
    # towards the head, however rows and columns run
    return float(corner @ normal) * (-1.0 if normal[2] <= -_LEAST_AXIAL else 1.0)


def _to_numbers(value: Any, count: int) -> NDArray[np.float64] | None:
    try:
        numbers = np.array([float(part) for part in _as_list(value)])
    except (TypeError, ValueError):
        return None
    return numbers if numbers.size == count and np.isfinite(numbers).all() else None


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)) else [value]
