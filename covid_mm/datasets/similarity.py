"""How alike two images are: the correlation of their 32 x 32 reductions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIGNATURE_SIZE = 32  # pixels per side: blind to noise and compression, still shows a slice's vessels
_ROWS = 1024  # compared at once, to bound the memory


def compute_signatures(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Signatures (n, 1024) float32 of images (n, size, size): mean 0, length 1; zeros for a flat image.

    The product of two signatures is the correlation of the reduced images, -1..1.
    """
    side = (SIGNATURE_SIZE, SIGNATURE_SIZE)
    signatures = np.zeros((len(images), SIGNATURE_SIZE**2), dtype=np.float32)
    for row, image in zip(signatures, images, strict=True):
        small = Image.fromarray(np.asarray(image, dtype=np.float32)).resize(side, Image.Resampling.BOX)
        values = np.asarray(small, dtype=np.float64).ravel()
        values = values - values.mean()
        length = np.sqrt((values**2).sum())
        if length > 1e-6 * values.size:
            row[:] = values / length
    return signatures


def find_similar_pairs(signatures: NDArray[np.float32], threshold: float) -> Iterator[tuple[int, int, float]]:
    """All pairs (i, j, correlation), i < j, at or above `threshold`."""
    for start in range(0, len(signatures), _ROWS):
        block = signatures[start : start + _ROWS] @ signatures[start:].T
        for i, j in np.argwhere(np.triu(block, 1) >= threshold):
            yield start + int(i), start + int(j), float(block[i, j])


def find_similar_across(
    first: NDArray[np.float32], second: NDArray[np.float32], threshold: float
) -> Iterator[tuple[int, int, float]]:
    """All pairs (row of `first`, row of `second`, correlation) at or above `threshold`."""
    for start in range(0, len(first), _ROWS):
        block = first[start : start + _ROWS] @ second.T
        for i, j in np.argwhere(block >= threshold):
            yield start + int(i), int(j), float(block[i, j])
