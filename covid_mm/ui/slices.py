"""DICOM on the page: what a slot's window and slice controls ask for, and the preview they get."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from covid_mm.config import MODALITIES
from covid_mm.errors import ImageError
from covid_mm.imaging import (
    WINDOW_PRESETS,
    DicomImage,
    SliceStack,
    WindowSettings,
)
from covid_mm.ui.pictures import make_view

FILE, FREE = "file", "free"


@dataclass(frozen=True)
class SliceChoice:
    """window: settings, a preset's name, `file`, or None for the default. frame: from 0, None for the first choice."""

    window: WindowSettings | str | None = None
    frame: int | None = None


def read_choices(values: Any) -> dict[str, SliceChoice]:
    """What the page's controls say, by modality; anything that is not understood is left out.

    values: `{"ct": {"window": "lung" | "mediastinum" | "file" | "free", "level": HU, "width": HU,
    "frame": 0}, ...}`, from the browser, so nothing in it is believed.

    Raises:
        ImageError: a free window that makes no sense.
    """
    found: dict[str, SliceChoice] = {}
    for modality in MODALITIES:
        part = values.get(modality) if isinstance(values, Mapping) else None
        if not isinstance(part, Mapping):
            continue
        name, frame = part.get("window"), part.get("frame")
        window: WindowSettings | str | None = None
        if name == FREE:
            level, width = (_to_number(part.get(key)) for key in ("level", "width"))
            window = WindowSettings(level, width)
        elif name in (*WINDOW_PRESETS, FILE):
            window = str(name)
        whole = isinstance(frame, int) and not isinstance(frame, bool)
        found[modality] = SliceChoice(window, frame if whole else None)
    return found


def preview_stack(stack: SliceStack, choice: SliceChoice) -> dict[str, Any]:
    """What a slot shows of DICOM files, which the browser cannot draw itself.

    Returns `{"url", "frames", "frame", "windows", "window", "level", "width", "range", "left_out"}`.
    Raises ImageError where the slice cannot be drawn.
    """
    image = stack.image
    frame = stack.find_first_choice() if choice.frame is None else choice.frame
    view = make_view(stack.render(frame, choice.window))
    shown = _resolve(image, choice.window)
    return {
        "url": view.url,
        "frames": len(stack),
        "frame": frame,
        "windows": _offer_windows(image, stack),
        "window": choice.window if isinstance(choice.window, str) else None,
        "level": None if shown is None else shown.level,
        "width": None if shown is None else shown.width,
        "range": _find_range(image, *stack.slices[frame]),
        "left_out": stack.left_out,
    }


def _offer_windows(image: DicomImage, stack: SliceStack) -> list[str]:
    """Names of the windows that make sense for this file."""
    own = [FILE] if stack.image.header.windows or image.header.modality != "ct" else []
    return [*WINDOW_PRESETS, *own, FREE] if image.header.modality == "ct" else [*own, FREE]


def _resolve(image: DicomImage, window: WindowSettings | str | None) -> WindowSettings | None:
    if isinstance(window, WindowSettings):
        return window
    if window in WINDOW_PRESETS:
        return WINDOW_PRESETS[window]
    if window is None and image.header.modality == "ct":
        return WINDOW_PRESETS["lung"]
    return image.header.windows[0] if image.header.windows else None


def _find_range(image: DicomImage, chosen: DicomImage, frame: int) -> list[float]:
    """What a free window may span: the usual Hounsfield units, or a film's own values."""
    if image.header.modality == "ct":
        return [-1200.0, 1200.0]
    values = chosen.values(frame)
    return [float(values.min()), float(max(values.max(), values.min() + 1))]


def _to_number(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ImageError("A free window needs a level and a width that are numbers; choose them again.")
