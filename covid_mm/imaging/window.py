"""Window level and width: which part of an image's values becomes the grey scale.

Source: DICOM PS3.3, C.11.2.1.2 (window) and C.11.2.1.3 (its functions).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from covid_mm.errors import ImageError

WindowFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
FILE = "file"  # the window that the file itself names


@dataclass(frozen=True)
class WindowSettings:
    """level: the middle, width: the extent of what is shown, both in HU or stored units.

    Raises ImageError for a width below 1 (LINEAR's least), values that are no numbers, or another function.
    """

    level: float
    width: float
    function: WindowFunction = "LINEAR"

    def __post_init__(self) -> None:
        if self.function not in get_args(WindowFunction):
            raise ImageError(
                "The window function {function} is not known; choose {choices}.",
                function=f"{self.function!r}",
                choices=", ".join(get_args(WindowFunction)),
            )
        least = 1.0 if self.function == "LINEAR" else 1e-6
        if not (math.isfinite(self.level) and math.isfinite(self.width) and self.width >= least):
            raise ImageError(
                "A window needs a level and a width of at least {least}, not level {level} and width"
                " {width}; choose another window.",
                least=f"{least:g}",
                level=f"{self.level:g}",
                width=f"{self.width:g}",
            )


WINDOW_PRESETS: dict[str, WindowSettings] = {
    "lung": WindowSettings(-600.0, 1500.0),
    "mediastinum": WindowSettings(40.0, 400.0),
}
DEFAULT_CT_WINDOW = WINDOW_PRESETS["lung"]


def choose_window(
    window: WindowSettings | str | None, modality: str | None, own: Sequence[WindowSettings]
) -> WindowSettings | None:
    """The window that a name stands for, None for none: the whole range is shown then.

    window: settings, a name of WINDOW_PRESETS, `file` for the first of the file's `own`, or None for the default:
    the lung window for CT, the file's own for a film. Raises ImageError for another name.
    """
    if isinstance(window, WindowSettings):
        return window
    if window is None and modality == "ct":
        return DEFAULT_CT_WINDOW
    if window in (None, FILE):
        return own[0] if own else None
    if window not in WINDOW_PRESETS:
        raise ImageError(
            "The window {window} is not known; choose {choices} or a level and width.",
            window=f"{window!r}",
            choices=", ".join([*WINDOW_PRESETS, FILE]),
        )
    return WINDOW_PRESETS[window]


def apply_window(values: NDArray[np.floating], window: WindowSettings) -> NDArray[np.float32]:
    """Values of any shape as grey float32, 0..255."""
    level, width = window.level, window.width
    wide = values.astype(np.float64)
    if window.function == "SIGMOID":
        shares = 1.0 / (1.0 + np.exp(np.clip(-4.0 * (wide - level) / width, -60.0, 60.0)))
    elif window.function == "LINEAR_EXACT":
        shares = (wide - level) / width + 0.5
    elif width <= 1.0:
        shares = (wide > level - 0.5).astype(np.float64)
    else:
        shares = (wide - (level - 0.5)) / (width - 1.0) + 0.5
    return np.asarray(np.clip(shares, 0.0, 1.0) * 255.0, dtype=np.float32)
