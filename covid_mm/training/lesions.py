"""Made-up opacities on real normal lungs: what lets a collection without patients teach both classes.

Ground glass adds density and leaves vessels visible, consolidation replaces the lung (Hansell et
al., "Fleischner Society: glossary of terms for thoracic imaging", Radiology 2008). COVID-19's lie at
the pleura more often than not. A network that learned them alone would know drawings; here they are
a part of the positive images, and the only positive ones of hospitals that gave none.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

LUNG_BELOW = 105.0  # grey of a CT crop (lung 40, soft tissue 190) below which a smoothed pixel is lung
_SOFT_TISSUE = 185.0
_LEAST_LUNG = 60  # pixels: with less there is no room for a lesion


def add_opacities(
    crop: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """A CT lung crop with one to seven opacities, and their mask; None where it shows too little lung.

    Args:
        crop: uint8 (s, s) as `imaging.lungs.read_lungs` gives it; not changed.

    Returns:
        uint8 (s, s) each; the mask is 255 on the opacities.
    """
    side = crop.shape[0]
    lung = (cv2.GaussianBlur(crop.astype(np.float32), (0, 0), 0.012 * side) < LUNG_BELOW).astype(np.uint8)
    if int(lung.sum()) < _LEAST_LUNG:
        return None
    depth = cv2.distanceTransform(lung, cv2.DIST_L2, 3)
    rows, columns = np.nonzero(lung)
    likelihood = np.exp(-depth[rows, columns] / (0.05 * side))  # near the pleura
    near, total = rng.random() < 0.75, float(likelihood.sum())
    chance = likelihood / total if near and total > 0 else None  # a crop of nothing but lung has no pleura
    image, coverage = crop.astype(np.float32), np.zeros((side, side), np.float32)
    for _ in range(int(rng.integers(1, 8))):
        spot = int(rng.choice(len(rows), p=chance))
        alpha = _draw_shape((int(rows[spot]), int(columns[spot])), side, rng) * lung
        if rng.random() < 0.7:
            density = rng.uniform(18, 70) * (1 + 0.35 * _waves(side, rng.uniform(0.01, 0.05), rng))
            denser = np.minimum(image + density, np.maximum(image, _SOFT_TISSUE))
        else:
            texture = rng.uniform(3, 18) * _waves(side, rng.uniform(0.006, 0.02), rng)
            denser = np.maximum(image, rng.uniform(120, _SOFT_TISSUE) + texture)
        image = image + alpha * (denser - image)
        coverage = np.maximum(coverage, alpha)
    mask = np.where(coverage > 0.35, 255, 0).astype(np.uint8)
    if not mask.any():
        return None
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), mask


def _draw_shape(centre: tuple[int, int], side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Coverage 0..1 of an uneven, turned ellipse with a soft edge."""
    long, short = (side * rng.uniform(0.02, 0.13) * np.array([1.0, rng.uniform(0.4, 1.0)])).tolist()
    angle = rng.uniform(0, np.pi)
    down, right = np.mgrid[0:side, 0:side].astype(np.float32)
    down, right = down - centre[0], right - centre[1]
    along = (right * np.cos(angle) + down * np.sin(angle)) / long
    across = (down * np.cos(angle) - right * np.sin(angle)) / short
    uneven = 0.55 * _waves(side, rng.uniform(0.015, 0.05), rng)
    edge = rng.uniform(0.2, 0.9)
    return np.asarray(np.clip((1.0 - np.hypot(along, across) + uneven) / edge, 0.0, 1.0), np.float32)


def _waves(side: int, length: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A smooth random field of deviation 1; length: of its structures, as a share of the side."""
    field = cv2.GaussianBlur(
        rng.standard_normal((side, side), dtype=np.float32), (0, 0), max(length * side, 0.5)
    )
    return np.asarray(field / max(float(field.std()), 1e-6), np.float32)
