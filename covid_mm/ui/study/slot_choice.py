"""Which slice of a DICOM file or scan is meant, and through which window: what the page's controls say, checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from covid_mm.config import MODALITIES
from covid_mm.errors import ImageError
from covid_mm.imaging import WINDOW_PRESETS, WindowSettings
from covid_mm.imaging.window import FILE

FREE = "free"


@dataclass(frozen=True)
class SliceChoice:
    """window: settings, a preset's name, `file`, or None for the default. frame: from 0, None for the first choice.

    alone: of a scan, whether that frame is answered by itself. series: of several the one to read, None for the chest.
    folder: the files are what a folder held, where one that can't be read is left out and counted, not refused.
    """

    window: WindowSettings | str | None = None
    frame: int | None = None
    alone: bool = False
    series: int | None = None
    folder: bool = False


def read_choices(values: Any) -> dict[str, SliceChoice]:
    """What the page's controls say, by modality; anything that is not understood is left out.

    values: `{"ct": {"window": "lung" | "mediastinum" | "file" | "free", "level": HU, "width": HU,
    "frame": 0, "alone": false, "series": 0, "folder": false}, ...}`, from the browser, so nothing in it is believed.

    Raises:
        ImageError: a free window that makes no sense.
    """
    choices: dict[str, SliceChoice] = {}
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
        choices[modality] = SliceChoice(
            window,
            _to_index(frame),
            part.get("alone") is True,
            _to_index(part.get("series")),
            part.get("folder") is True,
        )
    return choices


def describe_choice(choice: SliceChoice) -> dict[str, Any]:
    """A choice as the page's controls say it, for its scripts: what `read_choices` reads, without what is left open."""
    said: dict[str, Any] = {"frame": choice.frame, "series": choice.series, "alone": choice.alone or None}
    said["folder"] = choice.folder or None
    if isinstance(choice.window, WindowSettings):
        said |= {"window": FREE, "level": choice.window.level, "width": choice.window.width}
    else:
        said["window"] = choice.window
    return {name: value for name, value in said.items() if value is not None}


def choose_slice(choices: Mapping[str, SliceChoice], request: Any) -> dict[str, SliceChoice]:
    """The choices with the CT slice that a request names as `slice`, alone; unchanged where it names none."""
    index = _to_index(request.get("slice") if isinstance(request, Mapping) else None)
    if index is None:
        return dict(choices)
    return {**choices, "ct": dataclasses.replace(choices.get("ct", SliceChoice()), frame=index, alone=True)}


def _to_index(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _to_number(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ImageError("A free window needs a level and a width that are numbers; choose them again.")
