"""Heatmaps of one study by a chosen method, class and layer: plain values, no network in sight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Explanation:
    """The heatmaps of one study.

    method, layer: as `Predictor.explain` takes them. title: the method's name for people.
    heatmap_class: whose evidence. scale: `fixed` where 1 is the checkpoint's fixed scale,
    `relative` where it is each map's own highest value, so that two maps cannot be compared.
    heatmaps: modality -> float32 (height, width), 0..1, in the frame of the whole image as the
    prediction's; all zero without positive evidence.
    """

    method: str
    title: str
    layer: str
    heatmap_class: str
    scale: Literal["fixed", "relative"]
    heatmaps: Mapping[Any, NDArray[np.float32]]
