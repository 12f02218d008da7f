"""What a heatmap is checked for before anybody goes by it: heat beside the lungs, and a second method's word.

All levels are the worst twentieth of positive images of collections that the networks never saw, with lesions marked
by radiologists (242 slices of medseg-ct, 654 films of siim-covid19; `benchmarks/verdict.py`), by attention, before it
is weighed by the lungs, and HiResCAM beside it. They are of evidence for the positive class; that for normal has no
place to lie.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from covid_mm.config import MODALITIES, ImageKind, Modality
from covid_mm.explain.method_table import GradientMethod, LayerChoice, PassMethod

# method and layer: what the levels below are of
MEASURED: tuple[PassMethod, LayerChoice] = ("attention", "coarse")


@dataclass(frozen=True)
class HeatLevel:
    """The 95th percentile of a measure of doubt, and what it is worth.

    beyond, within: the share of the images above it, and of the others, whose hottest point that is drawn lay on a
    lesion.
    """

    level: float
    beyond: float
    within: float


# of the share of heat outside the lungs: a doubt about the evidence, not the place
OUTSIDE: dict[Modality, HeatLevel] = {
    "ct": HeatLevel(0.59, beyond=0.77, within=0.64),
    "xray": HeatLevel(0.61, beyond=0.91, within=0.93),
}
# of how far two methods' maps are apart, see `find_disagreement`
APART: dict[ImageKind, HeatLevel] = {
    "slice": HeatLevel(0.35, beyond=0.54, within=0.65),
    "film": HeatLevel(0.58, beyond=0.97, within=0.93),
}
_CELLS = 10  # a side: the grid on which cells are ranked, that of the served network's last convolution


def second_method(first: PassMethod) -> GradientMethod:
    """The method whose map a map by the first one is compared with."""
    return "layer_cam" if first == "hires_cam" else "hires_cam"


def find_share_outside(heatmap: NDArray[np.float32], outline: Iterable[NDArray[np.float32]]) -> float | None:
    """The share of heat outside the lungs, 0..1; None for a map without heat, or lungs that are not known.

    Args:
        heatmap: (height, width), 0 or more, of the whole image.
        outline: closed polygons (n, 2) of x, y as fractions of the image, one per lung.
    """
    polygons, total = list(outline), float(heatmap.sum())
    if not polygons or total <= 0.0:
        return None
    height, width = heatmap.shape
    lungs = np.zeros((height, width), np.uint8)
    scale = np.array([width, height], np.float32)
    cv2.fillPoly(lungs, [np.floor(polygon * scale).astype(np.int32) for polygon in polygons], 1)
    return float(heatmap[lungs == 0].sum()) / total


def contradict(first: NDArray[np.float32], second: NDArray[np.float32], modality: Modality) -> bool:
    """Whether two methods' maps (side, side) of one crop, 0 or more, point to different places.

    Never where either has no heat: there is nothing to compare then.
    """
    apart = find_disagreement(first, second, modality)
    return apart is not None and apart > APART[MODALITIES[modality].kind].level


def find_disagreement(
    first: NDArray[np.float32], second: NDArray[np.float32], modality: Modality
) -> float | None:
    """How far two maps are apart: of a slice the distance of their hottest points, of a film the negative of their
    cells' rank correlation; None where either has no heat."""
    if first.max() <= 0.0 or second.max() <= 0.0:
        return None
    if MODALITIES[modality].kind == "slice":
        return find_distance(first, second)
    return -correlate_ranks(first, second)


def find_distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """How far apart the hottest points of two maps (side, side) lie, as a share of the diagonal, 0..1."""
    points = [np.array(np.unravel_index(int(part.argmax()), part.shape)) for part in (first, second)]
    return float(np.hypot(*(points[0] - points[1])) / np.hypot(*(side - 1 for side in first.shape)))


def correlate_ranks(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Spearman's rank correlation of two maps' cells, -1..1; 1 where a map is the same everywhere."""
    ranks = [
        _rank(cv2.resize(part, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)) for part in (first, second)
    ]
    spread = float(np.std(ranks[0]) * np.std(ranks[1]))
    return (
        float(np.mean((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean()))) / spread
        if spread
        else 1.0
    )


def _rank(cells: NDArray[np.float32]) -> NDArray[np.float64]:
    """Ranks of all cells; equal ones share the mean of theirs."""
    _, position, counts = np.unique(cells.ravel(), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = (ends - (counts - 1) / 2.0)[position.ravel()]
    return ranks
