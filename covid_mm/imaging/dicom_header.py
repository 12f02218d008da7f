"""What may leave a DICOM header: modality, projection, windows, spacing, number of frames; nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast, get_args

from covid_mm.config import MODALITIES, Modality
from covid_mm.errors import ImageError
from covid_mm.imaging.window import WindowFunction, WindowSettings

_VIEW = re.compile(r"^(PA|AP|LL|RL|RLD|LLD|RLO|LLO|LATERAL)$")


@dataclass(frozen=True)
class ImageHeader:
    """All that leaves a DICOM header.

    modality: the slot it belongs in, None for any other. view: `PA`, `AP`, ... of a film.
    windows: those that the file names. pixel_spacing: rows, columns, in millimetres.
    """

    modality: Modality | None
    view: str | None
    windows: tuple[WindowSettings, ...]
    pixel_spacing: tuple[float, float] | None
    frames: int


def read_header_fields(dataset: Any, frames: int) -> ImageHeader:
    """The facts of a dataset that was checked."""
    view = str(dataset.get("ViewPosition", "")).strip().upper()
    code = str(dataset.get("Modality", "")).strip().upper()
    return ImageHeader(
        modality=next((m for m, one in MODALITIES.items() if code in one.dicom_codes), None),
        view=view if _VIEW.match(view) else None,
        windows=tuple(_read_windows(dataset)),
        pixel_spacing=_read_spacing(dataset),
        frames=frames,
    )


def _read_windows(dataset: Any) -> Iterator[WindowSettings]:
    """The windows that make sense; a film's nonsense window is left out, not an error."""
    levels, widths = (_to_list(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction", "") or "LINEAR").strip().upper()
    if function not in get_args(WindowFunction):
        function = "LINEAR"
    for level, width in zip(levels, widths, strict=False):
        if level is None or width is None:
            continue
        try:
            yield WindowSettings(level, width, cast(WindowFunction, function))
        except ImageError:
            continue


def _read_spacing(dataset: Any) -> tuple[float, float] | None:
    spacing = _to_list(dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing"))
    if len(spacing) != 2 or not all(side is not None and side > 0 for side in spacing):
        return None
    return cast(tuple[float, float], tuple(spacing))


def _to_list(value: Any) -> list[float | None]:
    if value is None:
        return []
    parts = value if hasattr(value, "__iter__") and not isinstance(value, (str, bytes)) else [value]
    return [to_float(part) for part in parts]


def to_float(value: Any) -> float | None:
    """A finite number, or None for whatever is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
